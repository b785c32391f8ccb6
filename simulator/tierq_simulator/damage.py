"""What the faults that spoil an answer do to it."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tierq_simulator.settings import Fault

HUGE_BYTES = 16 << 20
DEEP_LEVELS = 100_000
SLOW_SECONDS = 5.0
UNKNOWN_LABEL = "no_such_label"

# Stands in the text until the body is bytes, where it becomes bytes that no UTF-8 decoder takes.
_BAD_MARK = "\ue000bad\ue000"
_BAD_BYTES = b"\xff\xfe\xc3"
_NUMBER_VALUE = re.compile(r":\s*-?\d[\d.eE+-]*")
_ANY_VALUE = re.compile(r':\s*("(?:[^"\\]|\\.)*"|true|false|null)')


def spoil(fault: Fault, text: str, schema: dict[str, Any] | None) -> str:
    """The answer's text with the fault in it."""
    if fault.kind == "broken_json" and fault.where == "content":
        return f"{text[: len(text) * 3 // 4]} … as asked: {{"
    if fault.kind == "truncated":
        return text[: max(1, len(text) // 2)]
    if fault.kind == "huge":
        return text + " " * max(0, (fault.size or HUGE_BYTES) - len(text))
    if fault.kind == "deep":
        levels = fault.size or DEEP_LEVELS
        return '{"a":' * levels + "1" + "}" * levels
    if fault.kind == "nan":
        return _not_a_number(text)
    if fault.kind == "bad_charset":
        return text[: len(text) // 2] + _BAD_MARK + text[len(text) // 2 :]
    if fault.kind in ("schema_violation", "unknown_label") and schema is not None:
        return _violate(fault.kind, text, schema)
    return text


def spoil_body(fault: Fault, body: bytes) -> bytes:
    """The HTTP body with the fault in it."""
    if fault.kind == "bad_charset":
        return body.replace(_BAD_MARK.encode(), _BAD_BYTES)
    if fault.kind == "broken_json" and fault.where == "body":
        return body[: len(body) * 2 // 3]
    return body


def _not_a_number(text: str) -> str:
    spoiled, count = _NUMBER_VALUE.subn(":NaN", text, count=1)
    return spoiled if count else _ANY_VALUE.sub(":NaN", text, count=1)


def _violate(kind: str, text: str, schema: dict[str, Any]) -> str:
    value = orjson.loads(text)
    if not isinstance(value, dict) or not value:
        return orjson.dumps({"unexpected": value}).decode()
    labelled = [name for name in value if _enumerated(schema.get("properties", {}).get(name))]
    if kind == "unknown_label" and labelled:
        name = labelled[0]
        value[name] = [UNKNOWN_LABEL] if isinstance(value[name], list) else UNKNOWN_LABEL
    else:
        value[next(iter(value))] = {"unexpected": True}
    return orjson.dumps(value).decode()


def _enumerated(schema: object) -> bool:
    return isinstance(schema, dict) and ("enum" in schema or _enumerated(schema.get("items")))
