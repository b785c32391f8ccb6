"""JSON Schemas that a user hands in: checked once, at submission, against what the providers can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson

from tierq_shared.errors import InvalidTask

MAX_SCHEMA_BYTES = 64_000
MAX_DEPTH = 10
MAX_PROPERTIES = 5_000
"""Nesting and number of properties as OpenAI's structured outputs allow them; the tightest of the providers."""

_UNSUPPORTED = (
    "patternProperties",
    "unevaluatedProperties",
    "propertyNames",
    "dependentSchemas",
    "if",
    "not",
    "$dynamicRef",
)


def check_schema(schema: object, field: str = "schema") -> dict[str, Any]:
    """The schema, when every provider's structured output can be asked to follow it.

    Raises:
        InvalidTask: it is no JSON Schema, its root is no object, or it uses what the providers refuse.
    """
    if not isinstance(schema, dict):
        raise InvalidTask(f"must be a JSON Schema object or a pydantic model, not {type(schema).__name__}", field=field)
    _check_size(schema, field)
    try:
        jsonschema_rs.validator_for(schema, retriever=_retrieve_nothing)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise InvalidTask(f"is not a valid JSON Schema: {getattr(error, 'message', error)}", field=field) from None
    if schema.get("type") != "object" or "anyOf" in schema or "oneOf" in schema:
        raise InvalidTask('the root must be {"type": "object", …}: wrap it in an object with one property', field=field)
    if not schema.get("properties"):
        raise InvalidTask("has no properties: name what is to be extracted", field=field)
    _check_nodes(schema, field)
    return schema


def _retrieve_nothing(uri: str) -> Any:
    """A schema comes with all it needs: what it names elsewhere is neither fetched nor read from a file."""
    raise LookupError(f"$ref must point inside the schema (#/$defs/…), not to {uri}")


def _check_size(schema: dict[str, Any], field: str) -> None:
    try:
        size = len(orjson.dumps(schema))
    except (TypeError, orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidTask(f"cannot be written as JSON: {error}", field=field) from None
    if size > MAX_SCHEMA_BYTES:
        raise InvalidTask(f"is {size:,} bytes of JSON; the limit is {MAX_SCHEMA_BYTES:,}", field=field)


def _check_nodes(schema: dict[str, Any], field: str) -> None:
    properties = 0
    for node, path, depth in _nodes(schema, "", 0):
        for keyword in _UNSUPPORTED:
            if keyword in node:
                raise InvalidTask(f"{keyword!r} at {path or '/'} is not taken by the providers: remove it", field=field)
        if isinstance(node.get("additionalProperties"), dict) or node.get("additionalProperties") is True:
            raise InvalidTask(
                f"open objects (additionalProperties at {path or '/'}) are not taken by the providers", field=field
            )
        reference = node.get("$ref", "#")
        if not str(reference).startswith("#"):
            raise InvalidTask(f"$ref at {path or '/'} must point inside the schema (#/$defs/…)", field=field)
        if depth > MAX_DEPTH:
            raise InvalidTask(f"is nested deeper than {MAX_DEPTH} levels at {path}", field=field)
        properties += len(node.get("properties") or ())
    if properties > MAX_PROPERTIES:
        raise InvalidTask(f"has {properties:,} properties; the limit is {MAX_PROPERTIES:,}", field=field)


def _nodes(node: object, path: str, depth: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Every sub-schema with its path and its depth in objects and arrays."""
    if not isinstance(node, dict):
        return
    yield node, path, depth
    for keyword in ("properties", "$defs", "definitions"):
        for name, child in (node.get(keyword) or {}).items():
            yield from _nodes(child, f"{path}/{keyword}/{name}", depth + (keyword == "properties"))
    yield from _nodes(node.get("items"), f"{path}/items", depth + 1)
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for index, child in enumerate(node.get(keyword) or ()):
            yield from _nodes(child, f"{path}/{keyword}/{index}", depth)
