"""JSON Schema (draft 2020-12) made fit for each provider's structured output, and answers brought back to it.

No provider takes all of JSON Schema. What one does not know moves into the `description`, where the model may still
heed it, as Anthropic's own SDK does; the answer is validated against the original schema afterwards. What cannot be
said at all without changing the meaning (a free-form map made `additionalProperties: false` could only ever be
empty) makes the schema unfit, and the call goes without that provider's strict mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from tierq_workers.providers.nulls import drop_nulls
from tierq_workers.providers.refs import reaches_itself, resolve, takes_null

__all__ = ["Fitted", "drop_nulls", "for_anthropic", "for_gemini", "for_openai"]

Schema = dict[str, Any]

_ANNOTATIONS = frozenset({"title", "description"})
_SILENT = frozenset(
    {
        "default",
        "examples",
        "example",
        "$schema",
        "$id",
        "$comment",
        "discriminator",
        "readOnly",
        "writeOnly",
        "deprecated",
    }
)
"""Keywords that constrain nothing: left out, so that no provider stumbles over them."""
_UNSAYABLE = frozenset(
    {
        *("patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems"),
        *("not", "if", "then", "else", "dependentSchemas", "dependentRequired", "$dynamicRef", "$anchor"),
    }
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""String formats that OpenAI's structured outputs know; Anthropic's SDK lists the same and `uri`."""
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
"""Grammars have no lookaround, so OpenAI refuses a `pattern` with one; pydantic writes one for every Decimal."""
_MOST_ENUM_VALUES = 1_000
_LONG_ENUM = 250
_LONG_ENUM_CHARS = 15_000
"""OpenAI's limits of a strict schema: enum values in all, and the characters of one enum that has more than 250."""


class _UnfitError(Exception):
    """The schema cannot be said in this dialect without changing its meaning."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What one provider's structured output takes of JSON Schema."""

    keeps: frozenset[str]
    formats: frozenset[str] | None = None
    """None: any format."""
    closed: bool = True
    """Every object must say `additionalProperties: false`."""
    all_required: bool = False
    """Every property must be `required`: an optional one is asked for as nullable instead."""
    recursive: bool = True
    tuples: bool = False
    plain_enums: bool = False
    """Enums may hold strings and numbers only."""
    min_items: frozenset[int] | None = None
    """The only values `minItems` may have; None: any."""


_OPENAI = _Dialect(
    keeps=frozenset(
        {"type", "enum", "const", "pattern", "multipleOf", "maximum", "exclusiveMaximum", "minimum"}
        | {"exclusiveMinimum", "minItems", "maxItems"}
    ),
    formats=_FORMATS,
    all_required=True,
)
"""By OpenAI's guide to structured outputs, "supported schemas"."""
_ANTHROPIC = _Dialect(
    keeps=frozenset({"type", "enum", "const", "minItems", "required"}),
    formats=_FORMATS | {"uri"},
    recursive=False,
    min_items=frozenset({0, 1}),
)
"""By `transform_schema` of Anthropic's SDK 2.12 and the guide's list of limitations."""
_GEMINI = _Dialect(
    keeps=frozenset({"type", "enum", "required", "minimum", "maximum", "minItems", "maxItems"}),
    closed=False,
    tuples=True,
    plain_enums=True,
)
"""By the reference of `generationConfig.responseJsonSchema`."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A schema as JSON, and whether OpenAI's strict mode can hold the model to it."""

    schema: bytes
    strict: bool


def for_openai(schema: Schema) -> Fitted | None:
    """The schema for `response_format`: strict where it can be, else as it stands; None where its root is no object."""
    return _for_openai(orjson.dumps(schema))


def for_anthropic(schema: Schema) -> bytes | None:
    """The schema for `output_config.format`, as JSON; None where it is unfit."""
    return _for(_ANTHROPIC, orjson.dumps(schema))


def for_gemini(schema: Schema) -> bytes | None:
    """The schema for `responseJsonSchema`, as JSON; None where it is unfit."""
    return _for(_GEMINI, orjson.dumps(schema))


# The schema is the same for every task of a spec: fitting it once saves most of what a request costs to build.
@lru_cache(maxsize=256)
def _for(dialect: _Dialect, schema: bytes) -> bytes | None:
    root = _without_root_ref(orjson.loads(schema))
    try:
        if not dialect.recursive and reaches_itself(root):
            return None
        return orjson.dumps(_fit(root, root, dialect))
    except (_UnfitError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _for_openai(schema: bytes) -> Fitted | None:
    root = _without_root_ref(orjson.loads(schema))
    if root.get("type") != "object" or "anyOf" in root or "oneOf" in root:
        return None
    fitted = _for(_OPENAI, schema) if _enums_are_short(root) else None
    return Fitted(orjson.dumps(root), strict=False) if fitted is None else Fitted(fitted, strict=True)


def _without_root_ref(root: Any) -> Schema:
    """Pydantic writes a recursive model as a bare `$ref` at the root, which no provider takes there."""
    for _ in range(8):
        if not isinstance(root, dict) or not isinstance(root.get("$ref"), str):
            break
        target = resolve(root["$ref"], root)
        root = {**(target or {}), **{name: value for name, value in root.items() if name != "$ref"}}
    return root if isinstance(root, dict) else {}


def _fit(schema: Any, root: Schema, dialect: _Dialect) -> Schema:
    if not isinstance(schema, dict) or _UNSAYABLE & schema.keys():
        raise _UnfitError
    schema = _without_lone_all_of(schema)
    if "$ref" in schema:
        return _fit_ref(schema, root)
    schema = _typed(schema)
    fitted: Schema = {}
    unknown: Schema = {}
    for keyword, value in schema.items():
        if keyword in _PLACES:
            _PLACES[keyword](fitted, value, root, dialect)
        elif keyword in _ANNOTATIONS or _is_kept(keyword, value, dialect):
            fitted[keyword] = value
        elif keyword not in _SILENT | {"additionalProperties", "required"}:
            unknown[keyword] = value
    if _is_object(schema):
        _close(fitted, schema, root, dialect)
    return _described(fitted, unknown)


def _without_lone_all_of(schema: Schema) -> Schema:
    parts = schema.get("allOf")
    if parts is None:
        return schema
    if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
        raise _UnfitError
    rest = {name: value for name, value in schema.items() if name != "allOf"}
    if rest.keys() & parts[0].keys() - _ANNOTATIONS - _SILENT:
        raise _UnfitError
    return {**parts[0], **rest}


def _fit_ref(schema: Schema, root: Schema) -> Schema:
    """A `$ref` stands alone; what stood beside it goes around it."""
    if not isinstance(schema["$ref"], str) or resolve(schema["$ref"], root) is None:
        raise _UnfitError
    beside = {name: value for name, value in schema.items() if name not in _SILENT | {"$ref"}}
    if not beside:
        return {"$ref": schema["$ref"]}
    notes = {name: value for name, value in beside.items() if name in _ANNOTATIONS}
    unknown = {name: value for name, value in beside.items() if name not in _ANNOTATIONS}
    return _described({"anyOf": [{"$ref": schema["$ref"]}], **notes}, unknown)


def _typed(schema: Schema) -> Schema:
    """The schema with its `type`, which strict modes want, where it follows from the rest."""
    if {"type", "anyOf", "oneOf"} & schema.keys():
        return schema
    if "properties" in schema:
        return {"type": "object", **schema}
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    names = {_TYPES.get(type(value)) for value in values} if isinstance(values, list) else {None}
    if len(names) != 1 or None in names:
        raise _UnfitError
    return {"type": names.pop(), **schema}


_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _is_object(schema: Schema) -> bool:
    kinds = schema.get("type")
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds)


def _is_kept(keyword: str, value: Any, dialect: _Dialect) -> bool:
    if keyword == "pattern" and _LOOKAROUND.search(str(value)):
        return False
    if keyword == "enum" and dialect.plain_enums:
        return isinstance(value, list) and all(type(entry) in (str, int, float) for entry in value)
    if keyword == "format":
        return dialect.formats is None or value in dialect.formats
    if keyword == "minItems" and dialect.min_items is not None:
        return value in dialect.min_items
    return keyword in dialect.keeps


def _place_properties(fitted: Schema, value: Any, root: Schema, dialect: _Dialect) -> None:
    fitted["properties"] = {name: _fit(sub, root, dialect) for name, sub in _members(value)}


def _place_definitions(fitted: Schema, value: Any, root: Schema, dialect: _Dialect) -> None:
    fitted["$defs"] = {name: _fit(sub, root, dialect) for name, sub in _members(value)}


def _place_items(fitted: Schema, value: Any, root: Schema, dialect: _Dialect) -> None:
    # After `prefixItems`, `items: false` only says that nothing follows, which the lengths beside it say as well.
    if not (value is False and dialect.tuples):
        fitted["items"] = _fit(value, root, dialect)


def _place_branches(fitted: Schema, value: Any, root: Schema, dialect: _Dialect) -> None:
    if not isinstance(value, list) or "anyOf" in fitted:
        raise _UnfitError
    fitted["anyOf"] = [_fit(sub, root, dialect) for sub in value]


def _place_tuple(fitted: Schema, value: Any, root: Schema, dialect: _Dialect) -> None:
    if not dialect.tuples or not isinstance(value, list):
        raise _UnfitError
    fitted["prefixItems"] = [_fit(sub, root, dialect) for sub in value]


def _place_const(fitted: Schema, value: Any, _root: Schema, dialect: _Dialect) -> None:
    if "const" in dialect.keeps:
        fitted["const"] = value
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        fitted["enum"] = [value]
    else:
        raise _UnfitError


_PLACES: dict[str, Callable[[Schema, Any, Schema, _Dialect], None]] = {
    "properties": _place_properties,
    "$defs": _place_definitions,
    "items": _place_items,
    "anyOf": _place_branches,
    "oneOf": _place_branches,
    "prefixItems": _place_tuple,
    "const": _place_const,
}
"""How each keyword that holds further schemas, or is spelled otherwise somewhere, is carried over."""


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise _UnfitError
    return iter(value.items())


def _close(fitted: Schema, schema: Schema, root: Schema, dialect: _Dialect) -> None:
    extra = schema.get("additionalProperties")
    if not dialect.closed:
        if isinstance(extra, bool):
            fitted["additionalProperties"] = extra
        elif extra is not None:
            fitted["additionalProperties"] = _fit(extra, root, dialect)
    elif (isinstance(extra, dict) and extra) or (not fitted.get("properties") and extra is not False):
        raise _UnfitError
    else:
        fitted.setdefault("properties", {})
        fitted["additionalProperties"] = False
    _require(fitted, schema, root, dialect)


def _require(fitted: Schema, schema: Schema, root: Schema, dialect: _Dialect) -> None:
    required = schema.get("required", [])
    if not dialect.all_required:
        if required:
            fitted["required"] = required
        return
    given = schema.get("properties", {})
    for name, sub in fitted["properties"].items():
        if name not in required and not takes_null(given[name], root):
            fitted["properties"][name] = _nullable(sub)
    fitted["required"] = list(fitted["properties"])


def _nullable(schema: Schema) -> Schema:
    notes = {name: value for name, value in schema.items() if name in _ANNOTATIONS}
    plain = {name: value for name, value in schema.items() if name not in _ANNOTATIONS}
    branches = plain["anyOf"] if plain.keys() == {"anyOf"} else [plain]
    return {**notes, "anyOf": [*branches, {"type": "null"}]}


def _described(fitted: Schema, unknown: Mapping[str, Any]) -> Schema:
    if not unknown:
        return fitted
    told = "{" + ", ".join(f"{keyword}: {value}" for keyword, value in unknown.items()) + "}"
    before = fitted.get("description")
    return {**fitted, "description": f"{before}\n\n{told}" if before else told}


def _enums_are_short(root: Schema) -> bool:
    enums = list(_enums(root))
    return sum(map(len, enums)) <= _MOST_ENUM_VALUES and all(
        len(values) <= _LONG_ENUM or sum(len(str(value)) for value in values) <= _LONG_ENUM_CHARS for values in enums
    )


def _enums(node: Any) -> Iterator[list[Any]]:
    if isinstance(node, dict) and isinstance(node.get("enum"), list):
        yield node["enum"]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _enums(child)
