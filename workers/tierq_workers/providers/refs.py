"""Questions about a JSON Schema that need its references followed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

Schema = dict[str, Any]


def resolve(ref: str, root: Schema) -> Schema | None:
    """The schema that an internal reference (``#`` or ``#/$defs/Name``) points to; None where there is none."""
    node: Any = root
    if ref != "#" and not ref.startswith("#/"):
        return None
    for part in ref[2:].split("/") if ref != "#" else ():
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def takes_null(schema: Any, root: Schema) -> bool:
    """Whether null satisfies the schema."""
    return _takes_null(schema, root, {})


def _takes_null(schema: Any, root: Schema, known: dict[str, bool]) -> bool:
    if not isinstance(schema, dict):
        return schema is True
    kinds = schema.get("type", "null")
    return (
        (kinds == "null" or (isinstance(kinds, list) and "null" in kinds))
        and None in schema.get("enum", [None])
        and schema.get("const") is None
        and ("$ref" not in schema or _target_takes_null(schema["$ref"], root, known))
        and all(_takes_null(sub, root, known) for sub in schema.get("allOf", ()))
        and all(
            any(_takes_null(sub, root, known) for sub in schema[keyword])
            for keyword in ("anyOf", "oneOf")
            if keyword in schema
        )
    )


def _target_takes_null(ref: str, root: Schema, known: dict[str, bool]) -> bool:
    if ref not in known:
        # Before the answer is known, a circle of references adds nothing that could take null.
        known[ref] = False
        known[ref] = _takes_null(resolve(ref, root), root, known)
    return known[ref]


def reaches_itself(root: Schema) -> bool:
    """Whether the schema is recursive: some reference leads back to itself."""
    return any(ref in _reachable(ref, root) for ref in set(_refs(root)))


def _reachable(ref: str, root: Schema) -> set[str]:
    found: set[str] = set()
    open_ = [ref]
    while open_:
        fresh = set(_refs(resolve(open_.pop(), root))) - found
        found |= fresh
        open_ += fresh
    return found


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from _refs(child)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _refs(child)
