"""Reads the log-probabilities that came with an answer. All of them are sound, or there are none."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any

from tierq_workers.providers.base import ProviderError, Token
from tierq_workers.providers.wire import as_dict, as_list, as_text

Likely = tuple[bytes, float]
"""A token with its log-probability."""

_ROUNDING = 1e-4
"""Providers round: a certain token's log-probability may come as a little more than 0."""

_REFUSALS = frozenset({400, 403, 404, 422, 501})
"""OpenAI answers 403 («You are not allowed to request logprobs from this model») or 400 for its reasoning models,
Gemini 400 («Logprobs is not enabled for models/…»), and servers that know no such parameter any of these."""


def read_openai(content: object) -> tuple[Token, ...] | None:
    """A choice's `logprobs.content`; None where it is missing or one entry of it makes no sense."""
    tokens = [_openai_token(as_dict(entry)) for entry in as_list(content)]
    return _whole(tokens)


def read_gemini(result: object) -> tuple[Token, ...] | None:
    """A candidate's `logprobsResult`; None where it is missing or one entry of it makes no sense."""
    chosen = as_list(as_dict(result).get("chosenCandidates"))
    steps = as_list(as_dict(result).get("topCandidates"))
    if len(steps) > len(chosen):
        return None
    tokens = [_gemini_token(as_dict(entry), as_dict(step)) for entry, step in zip_longest(chosen, steps)]
    return _whole(tokens)


def refuses_logprobs(error: ProviderError) -> bool:
    """Whether a call failed because this model gives no log-probabilities: all else of its deployment may be well."""
    return error.http_status in _REFUSALS and "logprob" in error.message.lower()


def _whole(tokens: list[Token | None]) -> tuple[Token, ...] | None:
    found = tuple(token for token in tokens if token is not None)
    return found if found and len(found) == len(tokens) else None


def _openai_token(entry: dict[str, Any]) -> Token | None:
    likely = _openai_likely(entry)
    others = [_openai_likely(as_dict(one)) for one in as_list(entry.get("top_logprobs"))]
    return _token(likely, others)


def _gemini_token(entry: dict[str, Any], step: dict[str, Any]) -> Token | None:
    others = [_gemini_likely(as_dict(one)) for one in as_list(step.get("candidates"))]
    return _token(_gemini_likely(entry), others)


def _token(likely: Likely | None, others: list[Likely | None]) -> Token | None:
    """A token with its alternatives, without itself among them. An alternative that makes no sense spoils the token."""
    if likely is None or None in others:
        return None
    return Token(*likely, tuple(one for one in others if one is not None and one[0] != likely[0]))


def _openai_likely(entry: dict[str, Any]) -> Likely | None:
    text, logprob = _bytes(entry), _logprob(entry.get("logprob"))
    return None if text is None or logprob is None else (text, logprob)


def _gemini_likely(entry: dict[str, Any]) -> Likely | None:
    text, logprob = as_text(entry.get("token")), _logprob(entry.get("logProbability"))
    return None if text is None or logprob is None else (_utf8(text), logprob)


def _bytes(entry: dict[str, Any]) -> bytes | None:
    """A token's bytes: where it is a part of a character, its text cannot say what it is."""
    given = entry.get("bytes")
    if isinstance(given, list):
        try:
            return bytes(given)
        except (TypeError, ValueError):
            return None
    text = as_text(entry.get("token"))
    return None if text is None else _utf8(text)


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")


def _logprob(value: object) -> float | None:
    """OpenAI says -9999 for a token that is very unlikely; nothing is less likely than that."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(0.0, max(-9999.0, float(value))) if value <= _ROUNDING else None
