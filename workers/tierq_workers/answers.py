"""Checks what a model answered, whatever mode it was asked in: the stored output, or what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson

from tierq_shared.prompts import PromptTemplate
from tierq_shared.specs import SpecBody
from tierq_workers.providers.schemas import drop_nulls

_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""Local servers without a structured mode put JSON in a fence, and reasoning before it."""

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An even number of backslashes before it are themselves escaped: `\\\\u0000` spells the escape and holds no NUL."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_MAX_PROBLEM = 500


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
        self._validator = jsonschema_rs.validator_for(self.template.schema) if self.template.schema else None

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
        error = next(self._validator.iter_errors(value), None)
        if error is not None:
            place = "/".join(str(part) for part in error.instance_path) or "the answer"
            return Problem(f"at {place}: {error.message}"[:_MAX_PROBLEM])
        return self._output(value, task_input)

    def _output(self, value: Any, task_input: dict[str, Any]) -> str | Problem:
        if self.spec.type == "classify":
            value = list(dict.fromkeys(value["labels"])) if self.spec.multi else value["label"]
        if self.spec.type == "answer":
            known = {passage["id"] for passage in task_input["passages"]}
            unknown = [citation for citation in value["citations"] if citation not in known]
            if unknown:
                return Problem(f"it cites {unknown[0]!r}, which is no id of a passage"[:_MAX_PROBLEM])
        output = _json(value)
        return Problem("it holds a NUL character") if _ESCAPED_NUL.search(output) else output


def _parsed(text: str) -> Any:
    text = _THOUGHTS.sub("", text)
    fenced = _FENCED.match(text)
    try:
        return orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError as error:
        return Problem(f"it is no valid JSON: {error.msg} at character {error.pos}")


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
