"""Whatever the schema, the simulator's answer satisfies it, and the same input gets the same answer."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import orjson
import pytest

from tierq_simulator.answers import write_answer
from tierq_simulator.wire.base import Ask

NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}
LINKED = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/linked"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": _object(label={"type": "string", "enum": ["ham", "spam"]}),
    "enum of numbers": _object(priority={"enum": [1, 2, 3]}),
    "enum with null": _object(label={"type": ["string", "null"], "enum": ["a", "b", None]}),
    "const": _object(kind={"const": "invoice"}, version={"const": 3}),
    "choice of consts": _object(size={"anyOf": [{"const": "s"}, {"const": "m"}]}),
    "formats": _object(
        a={"type": "string", "format": "date"},
        b={"type": "string", "format": "date-time"},
        c={"type": "string", "format": "email"},
        d={"type": "string", "format": "uri"},
        e={"type": "string", "format": "uuid"},
        f={"type": "string", "format": "time"},
        g={"type": "string", "format": "ipv4"},
        h={"type": "string", "format": "hostname"},
        i={"type": "string", "format": "duration"},
        j={"type": "string", "format": "ipv6"},
    ),
    "numbers": _object(
        a={"type": "number", "minimum": 3.5, "maximum": 3.75},
        b={"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
        c={"type": "number", "multipleOf": 0.25, "minimum": 10},
        d={"type": "integer", "multipleOf": 7, "minimum": -20, "maximum": -1},
        e={"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 0.001},
        f={"type": "number", "maximum": -5},
        g={"type": "integer", "minimum": 1_000_000},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        score={"type": "number", "minimum": 1, "maximum": 5},
    ),
    "strings": _object(
        a={"type": "string", "minLength": 40},
        b={"type": "string", "maxLength": 3},
        summary={"type": "string", "minLength": 5, "maxLength": 20},
    ),
    "patterns": _object(
        a={"type": "string", "pattern": "^[A-Z]{3}-\\d{4,6}$"},
        b={"type": "string", "pattern": "^(red|green|blue)(-dark)?$"},
        c={"type": "string", "pattern": "^\\+?[1-9]\\d{1,14}$"},
        d={"type": "string", "pattern": "^(?:ab){2,3}[^xyz]*\\.pdf$"},
        e={"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"},
    ),
    "arrays": _object(
        a={"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
        b={"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 2, "uniqueItems": True},
        c={"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 0},
        d={"type": "array", "prefixItems": [{"type": "integer"}, {"const": "m"}], "minItems": 2},
        e={"type": "array", "items": {"type": "integer"}, "minItems": 5, "uniqueItems": True},
        f={"type": "array", "contains": {"const": "needed"}},
        tags={"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 1},
    ),
    "nested": _object(
        a=_object(b=_object(c={"type": "array", "items": _object(d={"type": "boolean"}), "minItems": 1}))
    ),
    "ref": {**_object(tree={"$ref": "#/$defs/node"}), "$defs": {"node": NODE}},
    "linked list": {**_object(first={"$ref": "#/$defs/linked"}), "$defs": {"linked": LINKED}},
    "root ref": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 2}}, "required": ["a"]},
            {"properties": {"a": {"maximum": 4}, "b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    "anyOf": _object(a={"anyOf": [_object(x={"type": "integer"}), {"type": "array", "items": {"type": "null"}}]}),
    "oneOf": _object(
        shape={
            "oneOf": [_object(kind={"const": "a"}, r={"type": "number"}), _object(kind={"const": "b"}, w={"const": 1})]
        }
    ),
    "nullable": _object(a={"type": ["string", "null"]}, b={"anyOf": [{"type": "number"}, {"type": "null"}]}),
    "null": _object(a={"type": "null"}),
    "optional": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}},
    "map": _object(m={"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2}),
    "anything": _object(a={}, b=True),
    "root string": {"type": "string", "enum": ["yes", "no"]},
    "root array": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1},
    "grounded": _object(
        answer={"type": ["string", "null"]},
        citations={"type": "array", "items": {"type": "string", "enum": ["p1", "p2"]}},
        answerable={"type": "boolean"},
    ),
    "invoice": _object(
        invoice_number={"type": "string"},
        invoice_date={"type": "string", "format": "date"},
        total={"type": "number", "minimum": 0},
        currency={"enum": ["EUR", "USD"]},
        lines={"type": "array", "items": _object(description={"type": "string"}, quantity={"type": "integer"})},
    ),
}
TEXTS = (
    "",
    "spam spam ham, order 42 of 2024-02-30, total 1,234.50 EUR",
    "Ünïcödé 日本語 \U0001f600 total: 12,50 € am 3. March 2025\n- 2 x Tea 3.20\n- 1 x Cup 9.00",
    '<passage id="p1">Tea is hot.</passage><passage id="p9">Ice is cold.</passage><question>Is tea hot?</question>',
)


def _write(schema: dict[str, Any], text: str, seed: int, skill: float = 1.0) -> str:
    return write_answer(Ask("m", "", [text], schema, 1, 1), text, seed, skill)


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_an_answer_satisfies_its_schema(name: str, skill: float) -> None:
    validator = jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True)
    for text in TEXTS:
        for seed in range(15):
            answer = orjson.loads(_write(SCHEMAS[name], text, seed, skill))
            errors = [error.message for error in validator.iter_errors(answer)]
            assert not errors, (answer, errors, text, seed)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_input_gets_the_same_answer(name: str) -> None:
    assert _write(SCHEMAS[name], TEXTS[1], 7) == _write(SCHEMAS[name], TEXTS[1], 7)


def test_another_seed_makes_up_other_values() -> None:
    assert len({_write(SCHEMAS["formats"], "", seed) for seed in range(5)}) == 5
