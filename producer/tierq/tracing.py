"""One span around a submission, where the calling app traces with OpenTelemetry; nothing at all where it does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from tierq_shared.store.submission import NewTask

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Submission:
    """A submission that nobody traces."""

    parent: dict[str, str] = {}  # noqa: RUF012  # never written to
    """What its tasks keep, so that the workers' spans join its trace: the W3C headers `traceparent`, `tracestate`."""

    def saw(self, part: Sequence[NewTask]) -> None:
        """Tasks were prepared."""

    def done(self, batch_id: str) -> None:
        """All tasks are stored, in this batch."""


class TracedSubmission(Submission):
    """A submission with a span of its own."""

    def __init__(self, span: Span) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.parent = {}
        TraceContextTextMapPropagator().inject(self.parent)
        self._span = span
        self._tasks = 0
        self._tiers: set[str] = set()

    def saw(self, part: Sequence[NewTask]) -> None:
        self._tasks += len(part)
        self._tiers.update(task.decision.tier for task in part)

    def done(self, batch_id: str) -> None:
        self._span.set_attributes(
            {
                "messaging.batch.message_count": self._tasks,
                "tierq.batch.id": batch_id,
                "tierq.tiers": sorted(self._tiers),
            }
        )


@contextmanager
def submission() -> Iterator[Submission]:
    """The span `tierq submit` around a block, as a child of the caller's; without one there is none.

    An app that has a span has imported OpenTelemetry, so this never does.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield Submission()
        return
    from opentelemetry import trace

    if not trace.get_current_span().get_span_context().is_valid:
        yield Submission()
        return
    with trace.get_tracer("tierq", _version()).start_as_current_span(
        "tierq submit",
        kind=trace.SpanKind.PRODUCER,
        attributes={
            "messaging.system": "tierq",
            "messaging.operation.type": "send",
            "messaging.operation.name": "submit",
        },
        # An exception's text may quote what was submitted.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield TracedSubmission(span)
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            raise


@cache
def _version() -> str:
    return version("tierq")
