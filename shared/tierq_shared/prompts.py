"""The provider-neutral prompt of one task: a constant part and the task's own input, kept apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Turn:
    """One message after the constant part."""

    role: Literal["user", "assistant"]
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is put to a model.

    ``system`` is byte for byte the same for every task of a spec, and comes first, so that providers' prompt caching
    pays. ``turns`` begins with the task's input; a corrective re-ask adds the model's answer and what was wrong with it.
    ``schema`` is the JSON Schema (draft 2020-12) that the answer must satisfy; None asks for plain text.
    """

    system: str = field(repr=False)
    turns: tuple[Turn, ...] = field(repr=False)
    schema: dict[str, Any] | None = field(repr=False)
    schema_name: str
    max_output_tokens: int
