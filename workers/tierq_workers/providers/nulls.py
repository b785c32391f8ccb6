"""Brings an answer back to the schema it was asked by: without the nulls that only stood in for "not given"."""

from __future__ import annotations

from typing import Any

from tierq_workers.providers.refs import resolve, takes_null

Schema = dict[str, Any]

_DEEPEST = 64
"""Answers are followed this deep; providers' strict modes nest 10 levels at most."""
_LOOKAHEAD = 2
"""Levels of a value that are compared to choose the branch of a union: tags stand on the first or second."""

_KINDS: dict[type, tuple[str, ...]] = {
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number", "integer"),
    list: ("array",),
    dict: ("object",),
    type(None): ("null",),
}


def drop_nulls(value: Any, original_schema: Schema) -> Any:
    """`value` without the properties that are null, optional, and not allowed to be null.

    OpenAI's strict mode requires every property, so an optional one is asked for as nullable; a null that the
    original schema allows has a meaning of its own and stays. Nothing else is changed, and `value` itself never is.
    """
    return _dropped(value, original_schema, original_schema, _DEEPEST)


def _dropped(value: Any, schema: Any, root: Schema, deep: int) -> Any:
    if deep == 0 or not isinstance(value, dict | list):
        return value
    parts: list[Schema] = []
    _gather(parts, schema, value, root)
    if isinstance(value, list):
        return [_dropped(entry, _entry_schema(parts, place), root, deep - 1) for place, entry in enumerate(value)]
    kept = {}
    for name, member in value.items():
        sub = _property(parts, name)
        if member is None and _only_filler(name, sub, parts, root):
            continue
        kept[name] = _dropped(member, sub, root, deep - 1)
    return kept


def _gather(parts: list[Schema], schema: Any, value: Any, root: Schema) -> None:
    """Adds every schema that speaks about this value: its own, those it refers to, the branch of a union it took."""
    if not isinstance(schema, dict) or any(schema is part for part in parts):
        return
    parts.append(schema)
    if isinstance(schema.get("$ref"), str):
        _gather(parts, resolve(schema["$ref"], root), value, root)
    for sub in schema.get("allOf", ()):
        _gather(parts, sub, value, root)
    for keyword in ("anyOf", "oneOf"):
        branch = next((sub for sub in schema.get(keyword, ()) if _fits(value, sub, root, _LOOKAHEAD, {})), None)
        _gather(parts, branch, value, root)


def _property(parts: list[Schema], name: str) -> Any:
    return next((part["properties"][name] for part in parts if name in part.get("properties", ())), None)


def _entry_schema(parts: list[Schema], place: int) -> Any:
    for part in parts:
        first = part.get("prefixItems", ())
        if place < len(first):
            return first[place]
        if "items" in part:
            return part["items"]
    return None


def _only_filler(name: str, schema: Any, parts: list[Schema], root: Schema) -> bool:
    required = any(name in part.get("required", ()) for part in parts)
    return schema is not None and not required and not takes_null(schema, root)


def _fits(value: Any, schema: Any, root: Schema, levels: int, known: dict[str, bool]) -> bool:
    """Whether the value could have been made by this branch, looking no further than `levels` into it.

    `known` holds what the references met so far say of the same value.
    """
    if not isinstance(schema, dict):
        return schema is True
    kinds = schema.get("type", _KINDS[type(value)])
    if not set(_KINDS[type(value)]) & ({kinds} if isinstance(kinds, str) else set(kinds)):
        return False
    if schema.get("const", value) != value or value not in schema.get("enum", (value,)):
        return False
    if isinstance(schema.get("$ref"), str) and not _target_fits(value, schema["$ref"], root, levels, known):
        return False
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if branches and not any(_fits(value, sub, root, levels, known) for sub in branches):
            return False
    return levels == 0 or not isinstance(value, dict) or _members_fit(value, schema, root, levels - 1)


def _target_fits(value: Any, ref: str, root: Schema, levels: int, known: dict[str, bool]) -> bool:
    if ref not in known:
        known[ref] = False
        known[ref] = _fits(value, resolve(ref, root), root, levels, known)
    return known[ref]


def _members_fit(value: dict[str, Any], schema: Schema, root: Schema, levels: int) -> bool:
    properties = schema.get("properties")
    if properties is None:
        return True
    if not set(schema.get("required", ())) <= value.keys() or not value.keys() <= properties.keys():
        return False
    return all(member is None or _fits(member, properties[name], root, levels, {}) for name, member in value.items())
