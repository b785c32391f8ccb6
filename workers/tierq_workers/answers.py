"""Checks what a model answered, whatever mode it was asked in: the stored output, or what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson

from tierq_shared.prompts import PromptTemplate
from tierq_shared.specs import SpecBody
from tierq_workers.providers.schemas import drop_nulls

_FENCE = "```"
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""Local servers without a structured mode put JSON in a fence, and reasoning before it."""

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An even number of backslashes before it are themselves escaped: `\\\\u0000` spells the escape and holds no NUL."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_MASK = "the value"
_UNQUOTED = {
    "additionalProperties": "it has properties that the schema does not name",
    "enum": "the value is none of those that the schema lists",
    "const": "the value is not the one that the schema names",
}
"""What is said where the validator's own words would repeat names from the answer, or a spec's labels."""

MAX_PROBLEM = 500

MAX_CHARS = 1_000_000
"""An answer of 128,000 tokens, the most that any model gives, is half of it."""
MAX_VALUES = 50_000
"""All that a schema asks of an answer is looked at on the event loop, in about 5 µs a value: at most 0.3 s."""
MAX_DEPTH = 64
"""As deep as `drop_nulls` follows an answer; orjson writes 254 levels, and the validator reads 255."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an answer cannot be used, in words that the model is shown when it is asked again."""

    message: str


class Kind:
    """One spec, ready to be run: its prompt template and its answers' validator."""

    def __init__(self, spec: SpecBody) -> None:
        self.spec = spec
        self.template = PromptTemplate(spec)
        self.system_bytes = len(self.template.system.encode())
        # Masked, a problem is told in the schema's words alone: it stands in the ledger, where no answer belongs.
        schema = self.template.schema
        self.frame_bytes: dict[str, int] = {}
        """The length of a request without its input, by deployment, where it was needed."""
        self._validator = jsonschema_rs.validator_for(schema, mask=_MASK) if schema else None

    def check(self, text: str, task_input: dict[str, Any]) -> str | Problem:
        """The output as JSON for the store, or what is wrong with the answer."""
        if "\x00" in text:
            return Problem("it holds a NUL character")
        if not text.isascii() and _SURROGATE.search(text):
            return Problem("it holds a lone surrogate, which is no character")
        if self._validator is None:
            return _json(text.strip()) if text.strip() else Problem("it is empty")
        value = _parsed(text)
        if isinstance(value, Problem):
            return value
        value = drop_nulls(value, self.template.schema or {})
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return _problem(error)
        return self._output(value, task_input)

    def _output(self, value: Any, task_input: dict[str, Any]) -> str | Problem:
        if self.spec.type == "classify":
            value = list(dict.fromkeys(value["labels"])) if self.spec.multi else value["label"]
        if self.spec.type == "answer":
            known = {passage["id"] for passage in task_input["passages"]}
            unknown = [place for place, citation in enumerate(value["citations"], 1) if citation not in known]
            if unknown:
                return Problem(f"citation {unknown[0]} of it is no id of a passage")
        output = _json(value)
        return Problem("it holds a NUL character") if _ESCAPED_NUL.search(output) else output


def _problem(error: jsonschema_rs.ValidationError) -> Problem:
    place = "/".join(str(part) for part in error.instance_path) or "the answer"
    return Problem(f"at {place}: {_UNQUOTED.get(error.kind.name, error.message)}"[:MAX_PROBLEM])


def _parsed(text: str) -> Any:
    if len(text) > MAX_CHARS:
        return Problem(f"it is longer than {MAX_CHARS:,} characters")
    if text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        return Problem(f"it holds more than {MAX_VALUES:,} values")
    try:
        value = orjson.loads(json_part(text))
    except orjson.JSONDecodeError as error:
        return Problem(f"it is no valid JSON: {error.msg} at character {error.pos}")
    return Problem(f"it is nested deeper than {MAX_DEPTH} levels") if _is_deep(value) else value


def json_part(text: str) -> str:
    """What of an answer is its JSON: without the reasoning before it, and without a fence."""
    return _unfenced(_THOUGHTS.sub("", text))


def _unfenced(text: str) -> str:
    """What stands in a code fence, or all of it. No regular expression: those that fit backtrack quadratically."""
    text = text.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    language, _, inner = text.removeprefix(_FENCE).removesuffix(_FENCE).partition("\n")
    return inner if language.strip() in ("", "json") else text


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
