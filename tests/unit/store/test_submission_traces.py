"""Submissions of an app that traces with OpenTelemetry: one span each, whose context every task keeps."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tierq import AsyncClient, Classify, Client, client
from tierq.outputs import Decoder
from tierq.submitting import BatchOptions, Submitter
from tierq_shared.errors import InvalidTask
from tierq_shared.settings import Settings
from tierq_shared.store.tables import tasks
from unit.store.installation import Installation

NO_BROKER = "redis://127.0.0.1:9/0"
"""The discard port, on which nobody listens."""

TEXT = "said in private by a customer"
TRIAGE = Classify.spec("triage", ["bug", "billing"])


class Broker:
    """Takes whatever is published."""

    def publish(self, some: Iterable[Any]) -> None:
        list(some)

    def close(self) -> None: ...


class Traced:
    """An app whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("app")

    def spans(self, name: str = "tierq submit") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Traced:
    traced = Traced()
    monkeypatch.setattr(trace, "get_tracer", traced.provider.get_tracer)
    monkeypatch.setattr(client, "Publisher", lambda _app: Broker())
    return traced


def submit(here: Installation, some: Iterable[Any], key: str | None = None) -> str:
    submitter = Submitter(Settings(), here.store, Broker())  # type: ignore[arg-type]
    return submitter.submit(some, BatchOptions(key=key), Decoder())


def kept(here: Installation, batch: str) -> list[dict[str, Any] | None]:
    """What the tasks of a batch keep beside their rows."""
    rows = [here.one(tasks, tasks.c.id == id_).constraints for id_ in here.ids(batch)]
    return [orjson.loads(row) if row else None for row in rows]


def context_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_the_tasks_of_a_traced_submission_keep_its_span(here: Installation, app: Traced) -> None:
    with app.tracer.start_as_current_span("request"):
        batch = submit(here, [TRIAGE(text=TEXT), TRIAGE(text="two", stakes="high", tier="large")])
    (span,), (request,) = app.spans(), app.spans("request")
    assert (span.kind, span.parent) == (SpanKind.PRODUCER, request.get_span_context())
    assert span.attributes == {
        "messaging.system": "tierq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "submit",
        "messaging.batch.message_count": 2,
        "tierq.batch.id": batch,
        "tierq.tiers": ("large", "small"),
    }
    parent = {"traceparent": context_of(span)}
    assert kept(here, batch) == [parent, {**parent, "pinned": True, "stakes": "high"}]
    assert TEXT not in span.to_json()


def test_without_a_span_nothing_is_kept(here: Installation, app: Traced) -> None:
    assert kept(here, submit(here, [TRIAGE(text=TEXT)])) == [None]
    assert app.spans() == []


def test_the_same_key_in_another_trace_is_no_conflict(here: Installation, app: Traced) -> None:
    batches = []
    for _ in range(2):
        with app.tracer.start_as_current_span("request"):
            batches.append(submit(here, [TRIAGE(text=TEXT, key="k")], key="batch"))
    first, second = app.spans()
    assert batches[0] == batches[1]
    assert context_of(first) != context_of(second)
    assert kept(here, batches[0]) == [{"traceparent": context_of(first)}]


def test_a_trace_that_is_not_sampled_goes_on_as_such(here: Installation, app: Traced) -> None:
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState([("vendor", "x")]))
    with trace.use_span(NonRecordingSpan(remote)):
        (found,) = kept(here, submit(here, [TRIAGE(text=TEXT)]))
    assert found is not None
    assert found["traceparent"].startswith(f"00-{1:032x}-")
    assert found["traceparent"].endswith("-00")
    assert found["tracestate"] == "vendor=x"
    assert app.spans() == []


def test_a_refused_submission_says_what_and_quotes_nothing(here: Installation, app: Traced) -> None:
    with app.tracer.start_as_current_span("request"), pytest.raises(InvalidTask):
        submit(here, [TRIAGE(text="one"), {"text": TEXT}])
    (span,) = app.spans()
    assert (span.attributes or {})["error.type"] == "InvalidTask"
    assert not span.status.is_ok
    assert (span.events, span.status.description) == ((), None)


def test_each_client_and_a_session_join_the_callers_trace(on_sqlite: Installation, tmp_path: Path, app: Traced) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/tierq.db", broker_url=NO_BROKER)  # type: ignore[arg-type]

    async def submit_all() -> list[str]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tierq.db")
        async with AsyncClient(settings=settings) as asynchronous:
            with app.tracer.start_as_current_span("request"):
                alone = await asynchronous.submit(TRIAGE(text=TEXT))
                async with AsyncSession(engine) as session, session.begin():
                    joined = await asynchronous.submit(TRIAGE(text=TEXT), session=session)
        await engine.dispose()
        return [alone.id, joined.id]

    with Client(settings=settings) as synchronous, app.tracer.start_as_current_span("request"):
        batches = [synchronous.submit(TRIAGE(text=TEXT)).id]
    batches += asyncio.run(submit_all())
    assert [kept(on_sqlite, batch) for batch in batches] == [[{"traceparent": context_of(one)}] for one in app.spans()]
    requests = [request.get_span_context() for request in app.spans("request")]
    assert [span.parent for span in app.spans()] == [requests[0], requests[1], requests[1]]


def test_an_app_without_opentelemetry_submits_as_ever(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert kept(here, submit(here, [TRIAGE(text=TEXT)])) == [None]


def test_importing_tierq_loads_nothing_of_opentelemetry() -> None:
    code = "import tierq, sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
