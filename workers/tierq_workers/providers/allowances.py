"""What providers say of their limits in the headers of each answer.

OpenAI's `x-ratelimit-*` (also of Azure, Groq and others that speak like it) and Anthropic's `anthropic-ratelimit-*`, as
their API references have them. Gemini says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

_LONGEST_WINDOW_S = 300.0
"""A limit whose window is longer is one of a day (Groq's requests), and no rate to keep to."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit as a provider states it; 0 or None where it does not."""

    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    requests_left: int | None = None
    tokens_left: int | None = None


NOTHING_SAID = Allowance()


def read_allowance(headers: Mapping[str, str]) -> Allowance | None:
    """The allowance that came with an answer; None where its headers say nothing."""
    if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
        return _openai(headers)
    if "anthropic-ratelimit-requests-limit" in headers:
        return _anthropic(headers)
    return None


def _openai(headers: Mapping[str, str]) -> Allowance:
    found = {}
    for name in ("requests", "tokens"):
        limit = _count(headers.get(f"x-ratelimit-limit-{name}"))
        left = _count(headers.get(f"x-ratelimit-remaining-{name}"))
        reset_s = _span_s(headers.get(f"x-ratelimit-reset-{name}", ""))
        found[name] = (limit, left) if limit and _is_of_a_minute(limit, left, reset_s) else (None, None)
    return _allowance(found["requests"], found["tokens"])


def _anthropic(headers: Mapping[str, str]) -> Allowance:
    def of(name: str) -> tuple[int | None, int | None]:
        kind = f"anthropic-ratelimit-{name}"
        return _count(headers.get(f"{kind}-limit")), _count(headers.get(f"{kind}-remaining"))

    return _allowance(of("requests"), of("tokens"))


def _allowance(requests: tuple[int | None, int | None], tokens: tuple[int | None, int | None]) -> Allowance:
    return Allowance(float(requests[0] or 0), float(tokens[0] or 0), requests[1], tokens[1])


def _is_of_a_minute(limit: int, left: int | None, reset_s: float) -> bool:
    """Whether the limit refills within minutes: `reset` says how long until all that is used is there again."""
    used = limit - (limit if left is None else left)
    return used <= 0 or reset_s * limit / used <= _LONGEST_WINDOW_S


def _count(value: str | None) -> int | None:
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _span_s(value: str) -> float:
    """A span as OpenAI writes it, such as ``1s``, ``6m0s`` or ``120ms``; 0 for anything else."""
    if not re.fullmatch(f"({_SPAN.pattern})+", value.strip()):
        return 0.0
    return sum(float(number) * _UNITS_S[unit] for number, unit in _SPAN.findall(value))
