from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from tierq_workers.providers.schemas import drop_nulls, for_anthropic, for_gemini, for_openai


class Line(BaseModel):
    sku: str
    quantity: int = Field(default=1, ge=1, description="how many")


class Card(BaseModel):
    kind: Literal["card"]
    last4: str = Field(min_length=4, max_length=4)
    holder: str = ""


class Cash(BaseModel):
    kind: Literal["cash"]
    currency: str = "EUR"


class Invoice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: str = Field(pattern="^[0-9]+$")
    total: Decimal
    note: str | None = None
    site: str = Field(default="", json_schema_extra={"format": "uri"})
    lines: list[Line] = Field(min_length=2)
    main: Line = Field(description="the dearest line")
    paid: Annotated[Card | Cash, Field(discriminator="kind")]


INVOICE = Invoice.model_json_schema()


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    fitted = for_openai(schema)
    assert fitted is not None
    assert fitted.strict
    loaded: dict[str, Any] = json.loads(fitted.schema)
    return loaded


def obj(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def nodes(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [node for child in schema for node in nodes(child)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(node for child in schema.values() for node in nodes(child))]


def test_openai_closes_every_object_and_requires_every_property() -> None:
    objects = [node for node in nodes(strict(INVOICE)) if node.get("type") == "object"]
    assert len(objects) == 4
    for node in objects:
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])


def test_openai_makes_an_optional_property_nullable_once() -> None:
    fitted = strict(INVOICE)
    nullable = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert fitted["properties"]["note"] == {"title": "Note", **nullable}
    assert fitted["$defs"]["Cash"]["properties"]["currency"] == {"title": "Currency", **nullable}
    assert fitted["properties"]["number"] == {"pattern": "^[0-9]+$", "title": "Number", "type": "string"}


def test_openai_gets_no_lookaround_no_default_and_no_one_of() -> None:
    lookaround = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
    fitted = strict(obj({"total": {"type": "string", "pattern": lookaround, "default": "1"}}, "total"))
    assert fitted["properties"]["total"] == {"type": "string", "description": f"{{pattern: {lookaround}}}"}
    assert not [node for node in nodes(strict(INVOICE)) if {"oneOf", "discriminator", "default"} & node.keys()]


def test_a_reference_stands_alone() -> None:
    assert strict(INVOICE)["properties"]["main"] == {
        "anyOf": [{"$ref": "#/$defs/Line"}],
        "description": "the dearest line",
    }


def test_anthropic_says_unsupported_keywords_in_the_description() -> None:
    fitted = json.loads(for_anthropic(INVOICE) or b"")
    assert fitted["properties"]["number"]["description"] == "{pattern: ^[0-9]+$}"
    assert fitted["$defs"]["Line"]["properties"]["quantity"]["description"] == "how many\n\n{minimum: 1}"
    assert fitted["properties"]["lines"]["description"] == "{minItems: 2}"
    assert fitted["properties"]["site"]["format"] == "uri"
    assert fitted["$defs"]["Line"]["required"] == ["sku"]
    assert all(node["additionalProperties"] is False for node in nodes(fitted) if node.get("type") == "object")


def test_gemini_keeps_most_of_it() -> None:
    fitted = json.loads(for_gemini(INVOICE) or b"")
    assert fitted["$defs"]["Line"]["properties"]["quantity"]["minimum"] == 1
    assert fitted["$defs"]["Card"]["properties"]["kind"]["enum"] == ["card"]
    assert fitted["properties"]["lines"]["minItems"] == 2
    pair = obj({"at": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "items": False}})
    assert "prefixItems" in json.loads(for_gemini(pair) or b"")["properties"]["at"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object"},
        {},
        {"type": "array", "prefixItems": [{"type": "number"}]},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
        {"type": "string", "not": {"const": "x"}},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.com/schema"},
        {"type": "string", "enum": [f"v{number}" for number in range(1001)]},
        {"type": "string", "enum": [f"{number:060}" for number in range(251)]},
    ],
)
def test_what_strict_mode_would_distort_goes_without_it(part: dict[str, Any]) -> None:
    schema = obj({"part": part}, "part")
    fitted = for_openai(schema)
    assert fitted is not None
    assert not fitted.strict
    assert json.loads(fitted.schema) == schema


def test_a_root_that_is_no_object_goes_without_response_format() -> None:
    assert for_openai({"type": "array", "items": {"type": "string"}}) is None
    assert for_openai({"anyOf": [obj({}), obj({})]}) is None


def test_recursive_schemas() -> None:
    node = obj({"value": {"type": "integer"}, "next": {"$ref": "#/$defs/Node"}}, "value")
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": node}}
    assert strict(schema)["type"] == "object"
    assert for_anthropic(schema) is None
    assert for_gemini(schema) is not None
    deep: dict[str, Any] = {"value": 0, "next": None}
    for value in range(500):
        deep = {"value": value, "next": deep}
    dropped = drop_nulls({"value": 1, "next": {"value": 2, "next": None}}, schema)
    assert dropped == {"value": 1, "next": {"value": 2}}
    assert drop_nulls(deep, schema)["value"] == 499


def test_fitting_changes_no_schema_and_is_the_same_every_time() -> None:
    before = copy.deepcopy(INVOICE)
    assert for_openai(INVOICE) == for_openai(before)
    assert (for_anthropic(INVOICE), for_gemini(INVOICE)) == (for_anthropic(before), for_gemini(before))
    assert before == INVOICE


def test_nulls_that_stand_for_absence_are_dropped() -> None:
    asked = {
        "number": "7",
        "total": 3,
        "note": None,
        "site": None,
        "lines": [{"sku": "a", "quantity": None}, {"sku": "b", "quantity": 2}],
        "main": {"sku": "a", "quantity": None},
        "paid": {"kind": "cash", "currency": None},
    }
    given_back = drop_nulls(asked, INVOICE)
    assert given_back == {
        "number": "7",
        "total": 3,
        "note": None,
        "lines": [{"sku": "a"}, {"sku": "b", "quantity": 2}],
        "main": {"sku": "a"},
        "paid": {"kind": "cash"},
    }
    assert jsonschema_rs.is_valid(strict(INVOICE), asked)
    assert jsonschema_rs.is_valid(INVOICE, given_back)
    assert Invoice.model_validate(given_back).main.quantity == 1
    assert asked["site"] is None


def test_nulls_that_say_something_stay() -> None:
    schema = obj({"required": {"type": "string"}, "either": {"type": ["string", "null"]}, "any": {}}, "required")
    value = {"required": None, "either": None, "any": None, "unknown": None}
    assert drop_nulls(value, schema) == value
    assert drop_nulls([None, 1], {"type": "array", "items": {"type": "integer"}}) == [None, 1]


def test_the_branch_of_a_union_decides() -> None:
    one = obj({"a": {"type": "string"}, "x": {"type": "string"}}, "a", additionalProperties=False)
    two = obj({"b": {"type": "string"}, "x": {"type": ["string", "null"]}}, "b", additionalProperties=False)
    schema = obj({"part": {"anyOf": [one, two]}}, "part")
    assert drop_nulls({"part": {"a": "1", "x": None}}, schema) == {"part": {"a": "1"}}
    assert drop_nulls({"part": {"b": "1", "x": None}}, schema) == {"part": {"b": "1", "x": None}}


def test_circles_of_references_end() -> None:
    names = [f"n{number}" for number in range(20)]
    circle: dict[str, Any] = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    both: dict[str, Any] = {"allOf": [{"$ref": "#/$defs/both"}, {"$ref": "#/$defs/both"}]}
    schema = obj({"x": circle, "y": both}, **{"$defs": {**dict.fromkeys(names, circle), "both": both}})
    assert drop_nulls({"x": {"a": None}, "y": {"a": None}}, schema) == {"x": {"a": None}, "y": {"a": None}}
    assert drop_nulls({"x": None}, schema) == {}
    assert for_openai(schema) is not None
    assert for_anthropic(schema) is None


LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": ["boolean", "null"]},
        {"enum": ["a", "b"]},
        {"const": 3},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
    ]
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return obj(properties, *required, additionalProperties=False)


def value_of(schema: dict[str, Any], data: st.DataObject) -> Any:
    """A value of a fitted schema, as a model held to it would make one."""
    if "anyOf" in schema:
        return value_of(data.draw(st.sampled_from(schema["anyOf"])), data)
    if "const" in schema or "enum" in schema:
        return data.draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    kinds = schema["type"]
    kind = data.draw(st.sampled_from(kinds)) if isinstance(kinds, list) else kinds
    if kind == "object":
        return {name: value_of(sub, data) for name, sub in schema["properties"].items()}
    if kind == "array":
        return [value_of(schema["items"], data) for _ in range(data.draw(st.integers(0, 2)))]
    return {"string": "s", "integer": 1, "boolean": True, "null": None}[kind]


SCHEMAS = objects(
    st.recursive(
        LEAVES,
        lambda inner: objects(inner) | inner.map(lambda sub: {"type": "array", "items": sub}),
        max_leaves=8,
    )
)


@given(schema=SCHEMAS, data=st.data())
def test_what_strict_mode_lets_through_satisfies_the_original_schema(schema: Any, data: st.DataObject) -> None:
    asked = strict(schema)
    value = value_of(asked, data)
    assert jsonschema_rs.is_valid(asked, value)
    assert jsonschema_rs.is_valid(schema, drop_nulls(value, schema))
