"""A spec: what every task of a kind shares, stored once, by content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from tierq_shared import checks
from tierq_shared.errors import InvalidTask

TaskType = Literal["classify", "extract", "answer", "generate"]
TASK_TYPES: tuple[TaskType, ...] = ("classify", "extract", "answer", "generate")

PROMPT_VERSION = 1
"""Raised with every change of the wording in `prompts.py`, so that results of different wordings can be told apart."""

MAX_LABELS = 500
MAX_EXAMPLES = 50
MAX_OUTPUT_TOKENS = 128_000


@dataclass(frozen=True)
class SpecBody:
    """The content of a spec, provider-neutral and without Python types. ``id`` is the hash of all of it."""

    type: TaskType
    name: str
    instructions: str | None = None
    labels: dict[str, str | None] | None = None
    """Label → description (None where it needs none). Classify only."""
    multi: bool = False
    schema: dict[str, Any] | None = field(default=None, hash=False)
    """JSON Schema of the output. Extract only; the other types' follow from the type."""
    examples: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    max_output_tokens: int | None = None
    prompt_version: int = PROMPT_VERSION

    @cached_property
    def json(self) -> bytes:
        """The content as canonical JSON. Labels and properties keep their order: it is part of the prompt."""
        return orjson.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @cached_property
    def id(self) -> str:
        """128 bits of SHA-256 over the content, in hex."""
        return hashlib.sha256(self.json).hexdigest()[:32]

    @classmethod
    def from_json(cls, document: str | bytes) -> SpecBody:
        content = orjson.loads(document)
        content["examples"] = tuple(content["examples"])
        return cls(**content)


def check_name(name: object) -> str:
    """A spec's name: what policies, reports and dashboards call this kind of task."""
    if (
        not isinstance(name, str)
        or not name
        or len(name) > 100
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise InvalidTask("must be 1 to 100 letters, digits, '-', '_' or '.'", field="name")
    return name


def check_labels(labels: object) -> dict[str, str | None]:
    """Labels as a list, or as a mapping of label to description."""
    if isinstance(labels, Mapping):
        described = {_check_label(label): checks.optional_text(text, "labels") for label, text in labels.items()}
    elif isinstance(labels, Sequence) and not isinstance(labels, str | bytes):
        described = dict.fromkeys(_check_label(label) for label in labels)
        if len(described) < len(labels):
            twice = next(label for label in labels if list(labels).count(label) > 1)
            raise InvalidTask(f"label {str.__str__(twice)!r} is given twice", field="labels")
    else:
        raise InvalidTask("must be a list of labels or a mapping of label to description", field="labels")
    if not 2 <= len(described) <= MAX_LABELS:
        raise InvalidTask(f"{len(described)} labels; give 2 to {MAX_LABELS}", field="labels")
    return described


def _check_label(label: object) -> str:
    """A label as plain text: an enum's members are taken by their text, since JSON takes no enum as a key."""
    plain = str.__str__(checks.text(label, "labels"))
    if len(plain) > checks.MAX_TAG_CHARS:
        raise InvalidTask(f"label {plain[:40]!r}… is longer than {checks.MAX_TAG_CHARS} characters", field="labels")
    return plain


def check_multi(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidTask(f"must be True or False, not {type(value).__name__}", field="multi")
    return value


def check_examples(examples: object) -> tuple[dict[str, Any], ...]:
    """Worked examples for the prompt: each `{"input": …, "output": …}`."""
    if not isinstance(examples, Sequence) or isinstance(examples, str | bytes):
        raise InvalidTask('must be a list of {"input": …, "output": …}', field="examples")
    if len(examples) > MAX_EXAMPLES:
        raise InvalidTask(f"{len(examples)} examples; the limit is {MAX_EXAMPLES}", field="examples")
    for index, example in enumerate(examples):
        if not isinstance(example, Mapping) or set(example) != {"input", "output"}:
            raise InvalidTask(f'example {index} must be {{"input": …, "output": …}}', field="examples")
        checks.text(example["input"], "examples")
    return tuple(
        {"input": example["input"], "output": _as_json(example["output"], index)}
        for index, example in enumerate(examples)
    )


def _as_json(output: object, index: int) -> Any:
    """An example's output as the prompt will hold it: what is checked is what the model is shown."""
    try:
        return orjson.loads(orjson.dumps(output))
    except TypeError as error:
        raise InvalidTask(f"example {index}: its output cannot be written as JSON: {error}", field="examples") from None


def check_max_output_tokens(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_OUTPUT_TOKENS:
        raise InvalidTask(f"must be a whole number from 1 to {MAX_OUTPUT_TOKENS:,}", field="max_output_tokens")
    return value
