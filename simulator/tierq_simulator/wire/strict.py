"""The rules by which providers refuse a schema for structured output."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

_OPENAI_UNSUPPORTED = (
    "allOf",
    "not",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "then",
    "else",
    "patternProperties",
)
_ANTHROPIC_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
}

Path = tuple[str, ...]


@lru_cache(maxsize=1024)
def openai_objection(schema_json: bytes) -> str | None:
    """Why OpenAI's strict mode would refuse the schema, in its words; None where it would not."""
    schema = orjson.loads(schema_json)
    if schema.get("type") != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
    for path, node in _nodes(schema, ()):
        objection = _openai_node(node)
        if objection:
            return f"In context={path!r}, {objection}"
    return None


def _openai_node(node: dict[str, Any]) -> str | None:
    for keyword in _OPENAI_UNSUPPORTED:
        if keyword in node:
            return f"'{keyword}' is not permitted."
    if node.get("type") != "object" and "properties" not in node:
        return None
    if node.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    required = node.get("required", [])
    missing = [name for name in node.get("properties", {}) if name not in required]
    if missing:
        wanted = "'required' is required to be supplied and to be an array including every key in properties."
        return f"{wanted} Missing '{missing[0]}'."
    return None


@lru_cache(maxsize=1024)
def anthropic_objection(schema_json: bytes) -> str | None:
    """Why Anthropic would refuse the schema; None where it would not."""
    for _, node in _nodes(orjson.loads(schema_json), ()):
        kind = node.get("type")
        if (kind == "object" or "properties" in node) and node.get("additionalProperties") is not False:
            return "For 'object' type, 'additionalProperties' must be explicitly set to false"
        for keyword in _ANTHROPIC_UNSUPPORTED.get(str(kind), ()):
            if keyword in node:
                return f"For '{kind}' type, property '{keyword}' is not supported"
        if node.get("minItems", 0) not in (0, 1):
            return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    return None


def _nodes(schema: object, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every subschema with its path, as OpenAI writes it."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for keyword in ("properties", "$defs", "definitions"):
        for name, child in (schema.get(keyword) or {}).items():
            yield from _nodes(child, (*path, keyword, name))
    for keyword in ("anyOf", "oneOf", "allOf"):
        for position, child in enumerate(schema.get(keyword) or ()):
            yield from _nodes(child, (*path, keyword, str(position)))
    yield from _nodes(schema.get("items"), (*path, "items"))
