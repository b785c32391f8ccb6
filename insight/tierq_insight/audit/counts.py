"""Token counts: the provider's where the log has them, else by a rule of thumb, which is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tierq_insight.audit.call import Call, Counted
from tierq_insight.audit.content import optional_table
from tierq_shared.checks import size_in_bytes
from tierq_shared.money import Usage
from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.specs import TaskType

Source = Literal["logged", "from text", "assumed"]
"""Where a count is from: the log's usage, the text at 4 bytes a token, or nothing but the task's type."""

ASSUMED_OUTPUT: dict[TaskType, int] = {"classify": 10, "extract": 150, "answer": 150, "generate": 400}
"""Output tokens where neither a count nor an answer was logged. Assumptions, not measurements."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one call used, and how that is known."""

    usage: Usage
    source: Source


def counted_in(usage: Mapping[str, Any]) -> Counted:
    """The counts of a usage object of OpenAI (Chat Completions or Responses) or Anthropic, in our sense."""
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        return _anthropic(usage)
    details = optional_table(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    shown = optional_table(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    counted_input = _first(usage, "prompt_tokens", "input_tokens")
    counted_output = _first(usage, "completion_tokens", "output_tokens")
    return Counted(
        counted_input,
        cached_tokens=min(_whole(details.get("cached_tokens")) or 0, counted_input or 0),
        output_tokens=counted_output,
        reasoning_tokens=min(_whole(shown.get("reasoning_tokens")) or 0, counted_output or 0),
    )


def tokens_of(call: Call, type_: TaskType) -> Tokens:
    """The tokens of a call that is a task of this type."""
    known = call.counted.usage
    if known is not None:
        return Tokens(known, "logged")
    counted, source = call.counted, "from text"
    input_tokens = counted.input_tokens
    if input_tokens is None:
        schema = len(str(call.schema)) if call.schema else 0
        input_tokens = estimated(size_in_bytes(call.instructions) + size_in_bytes(call.input) + schema)
    output_tokens = counted.output_tokens
    if output_tokens is None:
        source = "assumed" if call.output is None else source
        output_tokens = ASSUMED_OUTPUT[type_] if call.output is None else estimated(size_in_bytes(call.output))
    usage = Usage(input_tokens, counted.cached_tokens, counted.cache_write_tokens, output_tokens)
    return Tokens(usage, source)  # type: ignore[arg-type]  # it is one of the three


def estimated(bytes_: int) -> int:
    """Tokens by the rule of thumb that routing goes by."""
    return -(-bytes_ // BYTES_PER_TOKEN)


def _anthropic(usage: Mapping[str, Any]) -> Counted:
    """Anthropic counts cached and cache-written input apart from the rest of the input."""
    plain = _whole(usage.get("input_tokens"))
    cached = _whole(usage.get("cache_read_input_tokens")) or 0
    written = _whole(usage.get("cache_creation_input_tokens")) or 0
    whole = None if plain is None else plain + cached + written
    return Counted(whole, cached, written, _whole(usage.get("output_tokens")))


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := _whole(usage.get(name))) is not None), None)


def _whole(value: object) -> int | None:
    """A count, also where a CSV column holds it as text; None where it is none."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
