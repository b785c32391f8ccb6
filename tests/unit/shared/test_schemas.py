"""JSON Schemas as users hand them in: what every provider can take passes, the rest is refused with its path."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import BaseModel

from tierq_shared.errors import InvalidTask
from tierq_shared.schemas import check_schema
from tierq_shared.tasks import Extract


class Line(BaseModel):
    what: str
    quantity: int | None


class Invoice(BaseModel):
    number: str
    lines: list[Line]
    due: dt.date | None = None


def root(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties or {"a": {"type": "string"}}}


def nested(levels: int) -> dict[str, Any]:
    """A root whose property `a` lies this many arrays deep."""
    node: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        node = {"type": "array", "items": node}
    return root(a=node)


@pytest.mark.parametrize(
    "schema",
    [
        root(),
        nested(9),
        Invoice.model_json_schema(),
        root(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "string"}}},
        root(a={"$ref": "#"}),
        root(a={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        root(a={"type": "object", "properties": {}, "additionalProperties": False}),
        root(**{"if": {"type": "string"}, "not": {"type": "string"}}),
        root(a={"items": True}),
    ],
)
def test_what_the_providers_take_passes(schema: dict[str, Any]) -> None:
    assert check_schema(schema) is schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "must be a JSON Schema object or a pydantic model, not NoneType"),
        ("Invoice", "must be a JSON Schema object or a pydantic model, not str"),
        (Invoice(number="1", lines=[]), "must be a JSON Schema object or a pydantic model, not Invoice"),
        (dict, "must be a JSON Schema object or a pydantic model, not type"),
        ({}, "the root must be"),
        ({"type": "array", "items": {}}, "the root must be"),
        ({"type": ["object"], "properties": {"a": {}}}, "the root must be"),
        (root() | {"anyOf": [{}]}, "the root must be"),
        (root() | {"oneOf": [{}]}, "the root must be"),
        ({"type": "object"}, "has no properties: name what is to be extracted"),
        ({"type": "object", "properties": {}}, "has no properties: name what is to be extracted"),
        ({"type": "objct"}, "is not a valid JSON Schema: "),
        ({"type": "object", "properties": ["a"]}, "is not a valid JSON Schema: "),
        (root(a={"minimum": float("nan")}), "is not a valid JSON Schema: "),
        (root(a={"$ref": "#/$defs/nope"}), "is not a valid JSON Schema: "),
        (root(a={"$ref": "https://example.com/a"}), r"\$ref must point inside the schema"),
        (root(a={"$ref": "file:///etc/passwd"}), r"\$ref must point inside the schema"),
        ({1: 2}, "cannot be written as JSON: "),
        (root(a={"default": object()}), "cannot be written as JSON: "),
        (root(**{"\ud800": {}}), "cannot be written as JSON: "),
        (root(a={"description": "\ud800"}), "cannot be written as JSON: "),
        (root(a={"description": "x" * 64_000}), r"is 64,\d+ bytes of JSON; the limit is 64,000"),
        (nested(10), "is nested deeper than 10 levels at /properties/a/items"),
        (nested(300), "cannot be written as JSON: "),
        (root(**{f"p{n}": {} for n in range(5_001)}), "has 5,001 properties; the limit is 5,000"),
        (
            root(a={"type": "object", "additionalProperties": {"type": "string"}}),
            r"open objects \(additionalProperties at /properties/a\) are not taken",
        ),
        (root() | {"additionalProperties": True}, r"open objects \(additionalProperties at /\) are not taken"),
        (root(a={"anyOf": [{"not": {}}]}), "'not' at /properties/a/anyOf/0 is not taken by the providers: remove it"),
        (root() | {"$defs": {"b": {"if": {}}}}, r"'if' at /\$defs/b is not taken by the providers: remove it"),
    ],
)
def test_the_rest_is_refused_and_says_where(schema: Any, reason: str) -> None:
    with pytest.raises(InvalidTask, match=rf"(?s)^field 'schema': .*{reason}"):
        Extract("x", schema)


@pytest.mark.parametrize(
    "keyword",
    ["patternProperties", "unevaluatedProperties", "propertyNames", "dependentSchemas", "if", "not", "$dynamicRef"],
)
def test_keywords_that_no_provider_takes_are_refused(keyword: str) -> None:
    value = "#a" if keyword == "$dynamicRef" else {}
    schema = root(a={"type": "array", "items": {keyword: value, "$dynamicAnchor": "a"}})
    with pytest.raises(InvalidTask, match="/properties/a/items is not taken by the providers"):
        check_schema(schema)


def test_a_models_schema_is_the_specs_and_the_model_its_output() -> None:
    task = Extract("x", Invoice)
    assert task.content.schema == Invoice.model_json_schema()
    assert task.output_type is Invoice
    assert Extract("x", Invoice.model_json_schema()).output_type is None
