"""OpenTelemetry spans of a worker: one a claim, and under it one a call, in the trace of the request that submitted.

The names are those of the semantic conventions for messaging and for generative AI. Inputs, outputs and what providers
say are in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tierq_shared.money import NANO
from tierq_shared.outcomes import AttemptOutcome
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_workers.observers.base import Observer

MAX_OPEN = 20_000
"""Claims whose spans are open at once. A hook ends each; this bounds what one that never came would cost."""

_PROVIDERS = {"openai": "openai", "openai-compatible": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini"}
"""The conventions name the provider whose interface is spoken; `server.address` says whose machine it is."""

_OPERATIONS = {"gemini": "generate_content"}
_CHAT = "chat"

_ID = re.compile(r"[\w.:=+/-]+", re.ASCII)

_BAD_ENDS = ("failed", "expired")

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Claim:
    """A claim whose span is open, with the spans of its calls by attempt."""

    span: Span
    context: Context
    calls: dict[str, Span] = field(default_factory=dict)


class SpanObserver(Observer):
    """Makes spans of claims and calls. ``close``: sends what is buffered, within a bound."""

    def __init__(self, tracer: Tracer, close: Callable[[], None]) -> None:
        self._tracer = tracer
        self._send_rest = close
        self._open: dict[tuple[str, int], _Claim] = {}

    def claimed(self, task: ClaimedTask, attempt: NewAttempt) -> None:  # noqa: ARG002  # the hook's own words
        if len(self._open) >= MAX_OPEN:
            self._end(next(iter(self._open)), None)
        span = self._begin(task)
        self._open[task.id, task.epoch] = _Claim(span, set_span_in_context(span, Context()))

    def called(self, task: ClaimedTask, attempt: NewAttempt) -> None:
        claim = self._open.get((task.id, task.epoch))
        if claim is not None:
            operation = _OPERATIONS.get(attempt.provider, _CHAT)
            claim.calls[attempt.id] = self._tracer.start_span(
                f"{operation} {attempt.model}",
                context=claim.context,
                kind=SpanKind.CLIENT,
                attributes=_of_call(attempt, operation),
            )

    def answered(self, task: ClaimedTask, attempt: NewAttempt, result: AttemptResult) -> None:
        claim = self._open.get((task.id, task.epoch))
        span = claim.calls.pop(attempt.id, None) if claim is not None else None
        # A claim may be given up before its call began.
        if span is None:
            return
        if span.is_recording():
            span.set_attributes(_of_result(result))
            if result.outcome != AttemptOutcome.SUCCEEDED:
                span.set_status(StatusCode.ERROR)
        span.end()

    def ended(self, task: ClaimedTask, fate: str) -> None:
        key = (task.id, task.epoch)
        if key not in self._open:
            # The cache answered it, or nobody may run it: it was claimed and over in one commit.
            span = self._begin(task)
            self._open[key] = _Claim(span, Context())
        self._end(key, fate)

    def close(self) -> None:
        for key in list(self._open):
            self._end(key, None)
        self._send_rest()

    def _begin(self, task: ClaimedTask) -> Span:
        return self._tracer.start_span(
            f"process {task.tier}", context=_parent(task), kind=SpanKind.CONSUMER, attributes=_of_claim(task)
        )

    def _end(self, key: tuple[str, int], fate: str | None) -> None:
        claim = self._open.pop(key)
        for span in claim.calls.values():
            span.end()
        if fate is not None:
            claim.span.set_attribute("tierq.fate", fate)
        if fate in _BAD_ENDS:
            claim.span.set_attribute("error.type", fate)
            claim.span.set_status(StatusCode.ERROR)
        claim.span.end()


def _parent(task: ClaimedTask) -> Context:
    """The submission's span, as the task keeps it; none where nobody traced that."""
    return _PROPAGATOR.extract(task.constraints, Context()) if "traceparent" in task.constraints else Context()


def _of_claim(task: ClaimedTask) -> dict[str, Any]:
    return {
        "messaging.system": "tierq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": task.tier,
        "messaging.message.id": task.id,
        "tierq.task.id": task.id,
        "tierq.task.type": task.type,
        "tierq.batch.id": task.batch_id,
        "tierq.tier": task.tier,
        "tierq.epoch": task.epoch,
    }


def _of_call(attempt: NewAttempt, operation: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(attempt.provider, attempt.provider),
        "gen_ai.request.model": attempt.model,
        "tierq.attempt.id": attempt.id,
        "tierq.attempt.ordinal": attempt.ordinal,
        "tierq.deployment": attempt.deployment,
        "tierq.lane": attempt.lane,
        **_server(attempt.base_url),
    }


@lru_cache(maxsize=256)
def _server(base_url: str | None) -> dict[str, str | int]:
    url = urlsplit(base_url or "")
    found: dict[str, str | int] = {"server.address": url.hostname} if url.hostname else {}
    if url.hostname:
        found["server.port"] = url.port or (80 if url.scheme == "http" else 443)
    return found


def _id(named: str | None) -> str | None:
    """An id of the provider's, where it looks like one: what it chose to write there may be anything."""
    return named if named and _ID.fullmatch(named) else None


def _of_result(result: AttemptResult) -> dict[str, Any]:
    found: dict[str, Any] = {
        "http.response.status_code": result.http_status,
        "gen_ai.response.id": _id(result.response_id),
        "tierq.request_id": _id(result.request_id),
        "tierq.cost_usd": None if result.cost_nusd is None else result.cost_nusd / NANO,
    }
    if result.outcome != AttemptOutcome.SUCCEEDED:
        found["error.type"] = str(result.outcome)
    if (usage := result.usage) is not None and usage.total_tokens:
        found |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
    return {name: value for name, value in found.items() if value is not None}
