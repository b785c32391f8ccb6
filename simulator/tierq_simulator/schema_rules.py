"""What a JSON Schema says about one value: references followed, combinations merged, scalars checked."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

Schema = dict[str, Any]

_FORMATS = {
    "date": re.compile(r"\d{4}-\d{2}-\d{2}"),
    "date-time": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})"),
    "time": re.compile(r"\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})"),
    "email": re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII),
    "uri": re.compile(r"[a-z][a-z0-9+.-]*://[\w.~:/?#@!$&()*+,;=%-]+", re.ASCII),
    "uuid": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
_KEYWORD_TYPES = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}
_FOLLOW_LIMIT = 64


def flatten(schema: Any, root: Schema) -> Schema:
    """The schema with its references followed and its allOf merged in."""
    flat: Schema = schema if isinstance(schema, dict) else {}
    for _ in range(_FOLLOW_LIMIT):
        if "$ref" in flat:
            rest = {key: value for key, value in flat.items() if key != "$ref"}
            flat = merge(_target(flat["$ref"], root), rest)
        elif "allOf" in flat:
            merged = {key: value for key, value in flat.items() if key != "allOf"}
            for part in flat["allOf"]:
                merged = merge(merged, flatten(part, root))
            flat = merged
        else:
            break
    return flat


def _target(reference: str, root: Schema) -> Schema:
    node: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        node = node[int(key)] if isinstance(node, list) else node.get(key, {})
    return node if isinstance(node, dict) else {}


def merge(first: Schema, second: Schema) -> Schema:
    """A schema that asks for what both ask for."""
    if not first or not second:
        return second or first
    merged = {**first, **second}
    if "properties" in first and "properties" in second:
        both = first["properties"].keys() & second["properties"].keys()
        shared = {name: merge(first["properties"][name], second["properties"][name]) for name in both}
        merged["properties"] = {**first["properties"], **second["properties"], **shared}
    if "required" in first and "required" in second:
        merged["required"] = [*first["required"], *(n for n in second["required"] if n not in first["required"])]
    if "enum" in first and "enum" in second:
        merged["enum"] = [value for value in first["enum"] if value in second["enum"]]
    for keyword, stricter in (("minimum", max), ("minLength", max), ("minItems", max)):
        if keyword in first and keyword in second:
            merged[keyword] = stricter(first[keyword], second[keyword])
    for keyword in ("maximum", "maxLength", "maxItems"):
        if keyword in first and keyword in second:
            merged[keyword] = min(first[keyword], second[keyword])
    return merged


def kinds(schema: Schema) -> list[str]:
    """The types allowed, those that hold something first."""
    stated = schema.get("type")
    if isinstance(stated, list):
        return sorted(stated, key=lambda kind: kind == "null")
    if isinstance(stated, str):
        return [stated]
    return [next((kind for keyword, kind in _KEYWORD_TYPES.items() if keyword in schema), "string")]


def options(schema: Schema) -> list[Any] | None:
    """The values allowed, where they are listed: by enum, const, or a choice of consts."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches and all(isinstance(branch, dict) and ("const" in branch or "enum" in branch) for branch in branches):
        return [value for branch in branches for value in options(branch) or []]
    return None


def fits(value: Any, schema: Schema) -> bool:
    """Whether a scalar, or an array of them, satisfies the schema."""
    listed = options(schema)
    if listed is not None:
        return value in listed
    if not any(_is_a(value, kind) for kind in kinds(schema)):
        return False
    if isinstance(value, str):
        return _string_fits(value, schema)
    if isinstance(value, list):
        return _array_fits(value, schema)
    return isinstance(value, bool) or not isinstance(value, int | float) or _number_fits(value, schema)


def _is_a(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES.get(kind, ()))


def _string_fits(value: str, schema: Schema) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    form = _FORMATS.get(schema.get("format", ""))
    if form is not None and form.fullmatch(value) is None:
        return False
    pattern = schema.get("pattern")
    return pattern is None or re.search(pattern, value) is not None


def _array_fits(value: list[Any], schema: Schema) -> bool:
    items = schema.get("items")
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    return not isinstance(items, dict) or all(fits(item, items) for item in value)


def _number_fits(value: float, schema: Schema) -> bool:
    if value < schema.get("minimum", value) or value > schema.get("maximum", value):
        return False
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return False
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return False
    step = schema.get("multipleOf")
    return not step or Decimal(str(value)) % Decimal(str(step)) == 0
