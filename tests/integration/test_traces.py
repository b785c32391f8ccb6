"""One trace from an app's request through submission, claim and provider calls, as a collector receives it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from support.servers import Site
from tierq import Classify, Client, Generate

PROMPT = "said in private by a customer who owes"
LABEL = "planted label of a spec"


class Collector(ThreadingHTTPServer):
    """A receiver of OTLP over HTTP, which keeps all that it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiving)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[tuple[str, Span]]:
        """Each span with the service that it is from."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = values(resource.resource)["service.name"]
                found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return found


class _Receiving(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def values(of: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def traced_app(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[trace.Tracer]:
    """The tracer of an app that exports to the collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield provider.get_tracer("app")
    provider.shutdown()


def test_a_request_is_one_trace_as_far_as_the_providers(
    site: Site, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.simulator.outage(provider="openai", kind="overloaded", seconds=None)
    worker = site.start_worker("small", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100")
    tasks = [
        Classify(PROMPT, ["billing", LABEL], name="intent"),
        Generate(f"Write a line about what was {PROMPT}.", tier="small"),
    ]
    with traced_app(collector, monkeypatch) as tracer, Client(config=site.config) as client:
        with tracer.start_as_current_span("POST /tickets"):
            batch = client.submit_many(tasks)
        outcomes = list(batch.as_completed(timeout=30))
    assert all(outcome.ok for outcome in outcomes)

    worker.terminate()  # what it had buffered is sent on its way out
    worker.wait(15)
    spans = [span for _, span in collector.spans()]
    (root,) = [span for span in spans if span.name == "POST /tickets"]
    (submission,) = [span for span in spans if span.name == "tierq submit"]
    claims = [span for span in spans if span.name == "process small"]
    calls = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert submission.parent_span_id == root.span_id
    assert {span.parent_span_id for span in claims} == {submission.span_id}
    assert {values(span)["tierq.batch.id"] for span in [submission, *claims]} == {batch.id}
    assert {values(span)["tierq.task.id"] for span in claims} == {outcome.task_id for outcome in outcomes}
    for claim in claims:
        own = [span for span in calls if span.parent_span_id == claim.span_id]
        own.sort(key=lambda span: span.start_time_unix_nano)
        failed, answered = own[0], own[-1]
        assert (values(failed)["tierq.deployment"], values(failed)["error.type"]) == ("mini", "overloaded")
        assert answered.name == "chat claude-haiku-4-5"
        assert values(answered)["gen_ai.usage.output_tokens"] > 0
        assert values(answered)["gen_ai.response.id"]
        assert claim.start_time_unix_nano <= failed.start_time_unix_nano
        assert answered.end_time_unix_nano <= claim.end_time_unix_nano
    assert {service for service, span in collector.spans() if span in claims} == {"tierq-worker"}

    received = b"".join(collector.bodies)
    for private in (PROMPT, LABEL, *[str(outcome.output) for outcome in outcomes], *Site.KEYS.values()):
        assert private.encode() not in received
