"""What a worker tells OpenTelemetry: a span a claim, under it one a call, and nothing private."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tierq_shared.money import Usage
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_workers.answers import Kind
from tierq_workers.execution import TaskRun
from tierq_workers.observers import spans as module
from tierq_workers.observers import tracing
from tierq_workers.observers.delivery import Delivery
from tierq_workers.observers.spans import SpanObserver
from tierq_workers.observers.tracing import tracer_if_configured
from tierq_workers.runtime import PermittedAttempt, TierRuntime
from unit.workers.test_execution import OVERLOADED, SETTINGS, SPEC, Provider, answered, claimed

PROMPT = "said in private by a customer"
SAID = "told in private by a provider"
TRACE, SUBMISSION = f"{0xABC:032x}", f"{0xDEF:016x}"
PARENT = {"traceparent": f"00-{TRACE}-{SUBMISSION}-01", "tracestate": "vendor=x"}


class Watched:
    """An observer whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.closed = 0
        self.observer = SpanObserver(provider.get_tracer("tierq"), self._close)

    def _close(self) -> None:
        self.closed += 1

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


def attempt_of(task: ClaimedTask, id_: str = "a", **fields: Any) -> NewAttempt:
    values: dict[str, Any] = {"deployment": "mini", "provider": "openai", "model": "gpt-4o-mini", "lane": "call"}
    values |= {"base_url": "http://127.0.0.1:8080/v1"} | fields
    return NewAttempt(
        id_, task.id, task.epoch, ordinal=1, tier=task.tier, reserved_nusd=5, price_version=None, **values
    )


def parents(found: Sequence[ReadableSpan]) -> list[str | None]:
    return [f"{span.parent.span_id:016x}" if span.parent else None for span in found]


def id_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.span_id:016x}"


async def test_a_failed_call_and_the_next_one_are_siblings_in_the_submissions_trace() -> None:
    watched = Watched()
    task = claimed(constraints=PARENT, input_json=f'{{"text":"{PROMPT}"}}')
    failing = replace(OVERLOADED, message=SAID)
    runtime = TierRuntime(SETTINGS, "small", Provider(failing, answered("bug")), observer=watched.observer)  # type: ignore[arg-type]
    runtime.kinds[SPEC.id] = Kind(SPEC)
    first = runtime.first_attempt(task)
    assert isinstance(first, PermittedAttempt)

    async def record(_step: Any) -> bool:
        return True

    watched.observer.claimed(task, first)
    await TaskRun(runtime, task, first, Kind(SPEC), record).run()
    watched.observer.ended(task, "succeeded")

    failed, answer, claim = watched.spans
    assert [span.name for span in watched.spans] == ["chat m", "chat m", "process small"]
    assert [span.kind for span in watched.spans] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.CONSUMER]
    assert parents(watched.spans) == [id_of(claim), id_of(claim), SUBMISSION]
    assert {f"{span.context.trace_id:032x}" for span in watched.spans if span.context} == {TRACE}
    assert claim.parent is not None
    assert claim.parent.is_remote
    assert dict(claim.attributes or {}) == {
        "messaging.system": "tierq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "small",
        "messaging.message.id": "t",
        "tierq.task.id": "t",
        "tierq.task.type": "classify",
        "tierq.batch.id": "b",
        "tierq.tier": "small",
        "tierq.epoch": 1,
        "tierq.fate": "succeeded",
    }
    said = dict(answer.attributes or {})
    assert said.pop("tierq.attempt.id") not in (None, first.id)
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "tierq.attempt.ordinal": 2,
        "tierq.cost_usd": 0.0002,
        "tierq.deployment": "other",
        "tierq.lane": "call",
        "tierq.request_id": "req-1",
    }
    told = dict(failed.attributes or {})
    assert (told["tierq.attempt.id"], told["tierq.deployment"]) == (first.id, "mini")
    assert (told["error.type"], told["http.response.status_code"]) == ("overloaded", 503)
    assert (failed.status.is_ok, answer.status.is_ok, claim.status.is_ok) == (False, True, True)
    everything = "".join(span.to_json() for span in watched.spans)
    assert PROMPT not in everything
    assert SAID not in everything
    assert '"bug"' not in everything


@pytest.mark.parametrize(("written", "told"), [("chatcmpl-9/a:b", "chatcmpl-9/a:b"), (PROMPT, None), ("é", None)])
def test_only_what_looks_like_an_id_is_told_as_one(written: str, told: str | None) -> None:
    watched, task = Watched(), claimed()
    attempt = attempt_of(task)
    watched.observer.claimed(task, attempt)
    watched.observer.called(task, attempt)
    result = AttemptResult("a", "succeeded", 5, request_id=written, response_id=written)
    watched.observer.answered(task, attempt, result)
    (span,) = watched.spans
    ids = [(span.attributes or {}).get(name) for name in ("gen_ai.response.id", "tierq.request_id")]
    assert ids == [told, told]


def test_gemini_is_called_by_its_own_operation() -> None:
    watched, task = Watched(), claimed()
    gemini = attempt_of(task, provider="gemini", model="gemini-2.5-flash", base_url="https://g.example")
    watched.observer.claimed(task, gemini)
    watched.observer.called(task, gemini)
    watched.observer.answered(task, gemini, AttemptResult("a", "succeeded", 5, usage=Usage(1, 0, 0, 1)))
    (span,) = watched.spans
    assert span.name == "generate_content gemini-2.5-flash"
    assert (span.attributes or {})["gen_ai.provider.name"] == "gcp.gemini"
    assert (span.attributes or {})["server.address"] == "g.example"
    assert "tierq.cost_usd" not in (span.attributes or {})


@pytest.mark.parametrize(("fate", "is_ok"), [("succeeded", True), ("failed", False)])
def test_what_the_cache_answers_and_what_nobody_may_run_is_a_short_span(fate: str, is_ok: bool) -> None:
    watched = Watched()
    watched.observer.ended(claimed(constraints=PARENT), fate)
    (span,) = watched.spans
    assert (span.name, parents([span]), span.status.is_ok) == ("process small", [SUBMISSION], is_ok)


def test_a_task_without_a_trace_begins_one() -> None:
    watched = Watched()
    watched.observer.ended(claimed(), "succeeded")
    assert parents(watched.spans) == [None]


def test_a_trace_that_is_not_sampled_makes_no_spans() -> None:
    watched, task = Watched(), claimed(constraints={"traceparent": f"00-{TRACE}-{SUBMISSION}-00"})
    attempt = attempt_of(task)
    watched.observer.claimed(task, attempt)
    watched.observer.called(task, attempt)
    watched.observer.answered(task, attempt, AttemptResult("a", "overloaded", 5))
    watched.observer.ended(task, "queued again")
    assert watched.spans == []


def test_a_claim_that_is_taken_over_leaves_nothing_open() -> None:
    """Also where the same worker has claimed the task again before it heard."""
    watched = Watched()
    lost, again = claimed(epoch=1), claimed(epoch=2)
    for task in (lost, again):
        watched.observer.claimed(task, attempt_of(task, f"a{task.epoch}"))
        watched.observer.called(task, attempt_of(task, f"a{task.epoch}"))
    watched.observer.ended(lost, "taken over")
    assert [(span.attributes or {}).get("tierq.fate") for span in watched.spans] == [None, "taken over"]
    watched.observer.close()
    assert len(watched.spans) == 4
    assert watched.closed == 1


def test_a_call_that_never_began_has_no_span() -> None:
    watched, task = Watched(), claimed()
    watched.observer.claimed(task, attempt_of(task))
    watched.observer.answered(task, attempt_of(task), AttemptResult("a", "cancelled", 0))
    assert watched.spans == []


def test_claims_whose_end_is_never_heard_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    watched = Watched()
    for number in range(10):
        task = claimed(id=f"t{number}")
        watched.observer.claimed(task, attempt_of(task))
    assert [(span.attributes or {})["tierq.task.id"] for span in watched.spans] == [f"t{n}" for n in range(7)]


# Setting up.

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_set_up_where_nothing_asks_for_it(environment: dict[str, str]) -> None:
    assert tracer_if_configured(environment) is None


def test_a_missing_extra_is_said_once_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "entry_points", lambda **_: [])
    assert tracer_if_configured(ENDPOINT) is None
    (record,) = caplog.records
    assert "pip install 'tierq[otel]'" in record.getMessage()


def test_an_exporter_that_cannot_be_made_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing() -> None:
        raise ValueError("authorization=secret")

    monkeypatch.setattr(tracing, "entry_points", lambda **_: [SimpleNamespace(load=lambda: refusing)])
    assert tracer_if_configured(ENDPOINT) is None
    (record,) = caplog.records
    assert "secret" not in record.getMessage()


@pytest.fixture
def sdk_loggers() -> Any:
    """The level that a set-up gives to the SDK's loggers, taken back."""
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("sdk_loggers")
@pytest.mark.parametrize(
    ("named", "service"),
    [
        ({}, "tierq-worker"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,team=a"}, "ours"),
    ],
)
def test_the_service_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, named: dict[str, str], service: str
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "entry_points", lambda **_: [SimpleNamespace(load=lambda: lambda: exporter)])
    observer = tracer_if_configured({"OTEL_TRACES_EXPORTER": "otlp"})
    assert observer is not None
    observer.ended(claimed(), "succeeded")
    observer.close()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == service


class Stuck(SpanExporter):
    """Does not come back until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # the interface's words
        self.free.wait()
        return SpanExportResult.FAILURE


@pytest.mark.usefixtures("sdk_loggers")
def test_a_collector_that_hangs_holds_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.05)
    exporter = Stuck()
    monkeypatch.setattr(tracing, "entry_points", lambda **_: [SimpleNamespace(load=lambda: lambda: exporter)])
    observer = tracer_if_configured(ENDPOINT)
    assert observer is not None
    observer.ended(claimed(), "succeeded")
    closing = threading.Thread(target=observer.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    exporter.free.set()


class Failing(SpanExporter):
    """Ends as it is told: `+` takes the spans, `-` does not, `!` raises."""

    def __init__(self, ends: str) -> None:
        self._ends = list(ends)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # the interface's words
        end = self._ends.pop(0)
        if end == "!":
            raise OSError("refused")
        return SpanExportResult.SUCCESS if end == "+" else SpanExportResult.FAILURE


def test_a_collector_that_is_down_is_heard_of_once(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery(Failing("-!-++-"))
    for _ in range(6):
        delivery.export([])
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "traces cannot be delivered",
        "traces are delivered again",
        "traces cannot be delivered",
    ]


def test_a_worker_without_traces_loads_nothing_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracer_if_configured({}) is None
