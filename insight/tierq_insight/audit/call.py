"""One request of today, brought from whatever shape it was logged in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tierq_shared.money import Usage
from tierq_shared.specs import TaskType


class Unreadable(Exception):
    """A row that holds no request: the field at fault, and how to mend it. Never what stands in it."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        self.reason = reason
        self.field = field
        super().__init__(f"field {field!r}: {reason}" if field else reason)


@dataclass(frozen=True, slots=True)
class Counted:
    """The provider's own token counts, as far as the log has them; None where it does not."""

    input_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int | None = None
    reasoning_tokens: int = 0

    @property
    def usage(self) -> Usage | None:
        """The counts as a usage; None where either side is missing."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return Usage(
            self.input_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Call:
    """What one request asked, and what is known of its answer."""

    input: str = field(repr=False)
    """The request's own part: the user's and the model's turns, and passages where they were given."""
    instructions: str = field(default="", repr=False)
    """What the request shares with others of its kind: system and developer messages."""
    is_prompt: bool = True
    """Whether the input may say what is asked. A column of plain texts is data: its words ask for nothing."""
    output: str | None = field(default=None, repr=False)
    """The answer's text; None where it was not logged."""
    model: str | None = None
    counted: Counted = Counted()
    type: TaskType | None = None
    """Where the row itself says what it is a task of."""
    schema: dict[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema that the answer had to follow, from the response format or the one tool it had to use."""
    name: str | None = None
    """What the schema, or the row, calls this kind of task."""
    asks_json: bool = False
    """It asked for JSON without a schema."""
    tools: int = 0
    """Tools that the model was free to use."""
    labels: int = 0
    """Labels that the row itself lists."""
    passages: int = 0
    """Passages in a field of their own."""
    turns: int = 1
    """Messages of the user."""
    images: int = 0
    """Parts that are no text: images, files, sound."""
    is_batch: bool = False
    """It went through a provider's Batch API, which charges less than the list price."""
