"""From a row to a call: a logged request, or plain columns such as those of a CSV file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tierq_insight.audit.call import Call, Unreadable
from tierq_insight.audit.content import as_json, optional_table, optional_text, text_of, unpacked
from tierq_insight.audit.counts import counted_in
from tierq_insight.audit.request_logs import is_request, read_request
from tierq_shared.specs import TASK_TYPES, TaskType

PROMPTS = ("prompt", "query", "input", "user_prompt", "request")
TEXTS = ("text", "body", "content", "message", "ticket", "document", "brief")
QUESTIONS = ("question",)
PASSAGES = ("passages", "context", "contexts", "documents")
INSTRUCTIONS = ("instructions", "system", "system_prompt")
OUTPUTS = ("output", "response", "completion", "answer", "expected")
MODELS = ("model", "model_name")
"""The columns that are looked for where none is named, first match first."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What the readers make of bytes that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that the user named; None where the usual names are looked for."""

    text: str | None = None
    prompt: str | None = None
    question: str | None = None
    passages: str | None = None
    output: str | None = None
    model: str | None = None
    type: TaskType | None = None
    """What every row is a task of."""
    instructions: str | None = field(default=None, repr=False)
    """What the model is told before each row's own text."""

    @property
    def is_named(self) -> bool:
        """Whether a column of the input was named, so that rows are plain ones."""
        return any((self.text, self.prompt, self.question, self.passages))

    def given(self) -> dict[str, str]:
        """The named columns, by their options."""
        names = ("text", "prompt", "question", "passages", "output")
        found = {f"--{name}": getattr(self, name) for name in names} | {"--model-column": self.model}
        return {option: column for option, column in found.items() if column is not None}


def read_call(values: Mapping[str, Any], columns: Columns) -> Call:
    """The call that a row holds.

    Raises:
        Unreadable: with the field at fault and the mend.
    """
    if not columns.is_named and is_request(values):
        call = read_request(values)
    elif "custom_id" in values and "response" in values:
        raise Unreadable("holds an answer without its request: audit the batch's input file", "response")
    else:
        call = _plain(values, columns)
    return _checked(_with_defaults(call, columns))


def _plain(values: Mapping[str, Any], columns: Columns) -> Call:
    asked, is_prompt = _asked(values, columns)
    passages = _listed(_value(values, columns.passages, PASSAGES))
    labels = unpacked(values.get("labels"), "labels")
    schema = unpacked(values.get("schema"), "schema")
    return Call(
        input="\n\n".join([*passages, asked]),
        instructions=columns.instructions or text_of(_value(values, None, INSTRUCTIONS)),
        is_prompt=is_prompt,
        output=_output(_value(values, columns.output, OUTPUTS)),
        model=optional_text(_value(values, columns.model, MODELS)),
        counted=counted_in(optional_table(values.get("usage")) or values),
        type=columns.type or next((one for one in TASK_TYPES if one == values.get("type")), None),
        schema=dict(schema) if isinstance(schema, dict) else None,
        name=optional_text(values.get("name")) if "type" in values else None,
        labels=len(labels) if isinstance(labels, list | dict) else 0,
        passages=len(passages),
    )


def _asked(values: Mapping[str, Any], columns: Columns) -> tuple[str, bool]:
    """The row's own text, and whether it may say itself what is asked."""
    named = [(columns.prompt, True), (columns.question, True), (columns.text, False)]
    for column, is_prompt in named:
        if column is not None:
            return _text(values, column), is_prompt
    for names, is_prompt in ((PROMPTS, True), (QUESTIONS, True), (TEXTS, False)):
        for name in names:
            if isinstance(values.get(name), str):
                return _text(values, name), is_prompt
    raise Unreadable(
        "there is neither a request (`messages`, `input`, `body`) nor a column of texts: name it with --text or "
        "--prompt"
    )


def _text(values: Mapping[str, Any], column: str) -> str:
    value = values.get(column)
    if value is None:
        raise Unreadable("is missing", column)
    if not isinstance(value, str):
        raise Unreadable(f"must be text, not {type(value).__name__}", column)
    if not value.strip():
        raise Unreadable("is empty: give some text, or leave the row out", column)
    return value


def _value(values: Mapping[str, Any], named: str | None, usual: Sequence[str]) -> Any:
    if named is not None:
        return values.get(named)
    return next((values[name] for name in usual if values.get(name) is not None), None)


def _listed(passages: object) -> list[str]:
    """The texts of passages, however a column holds them."""
    try:
        passages = unpacked(passages, "passages")
    except Unreadable:
        return [str(passages)]
    if isinstance(passages, dict):
        passages = list(passages.values())
    if isinstance(passages, str):
        return [passages] if passages.strip() else []
    return [text for one in passages if (text := text_of(one))] if isinstance(passages, list) else []


def _output(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return text_of(value) if isinstance(value, list) and text_of(value) else as_json(value)


def _with_defaults(call: Call, columns: Columns) -> Call:
    """The call, with what the user said of every row."""
    changes: dict[str, Any] = {}
    if columns.type is not None:
        changes["type"] = columns.type
    if columns.instructions is not None:
        changes["instructions"] = columns.instructions
    return replace(call, **changes) if changes else call


def _checked(call: Call) -> Call:
    """The call, where every character of it can be counted.

    Raises:
        Unreadable: bytes of it were no UTF-8.
    """
    for text in (call.instructions, call.input, call.output or ""):
        if not text.isascii() and _SURROGATE.search(text):
            raise Unreadable("a text holds bytes that are not UTF-8: save the file as UTF-8")
    return call
