"""Sets OpenTelemetry up in a worker where the standard `OTEL_…` environment asks for it, and only there."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

from tierq_workers.observers.base import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("tierq.worker")

SERVICE_NAME = "tierq-worker"
"""Where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES says another."""

FLUSH_S = 2.0
"""What a stopping worker waits for its last spans to be taken: a collector that is down must not hold it."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def tracer_if_configured(environment: Mapping[str, str] = os.environ) -> Observer | None:
    """The observer that makes spans; None where the environment asks for none, or what it asks for is not installed."""
    wanted = _exporters_wanted(environment)
    if not wanted:
        return None
    try:
        exporters = [_exporter(name) for name in wanted]
    except (ImportError, LookupError):
        log.warning(
            "the environment asks for traces (%s), and what exports them is not installed: pip install 'tierq[otel]'",
            ", ".join(wanted),
        )
        return None
    except Exception as error:  # whatever an exporter makes of the environment; its text may quote headers
        log.warning("the environment's OTEL_ variables cannot be used (%s): no traces are made", type(error).__name__)
        return None
    return _observer(exporters)


def _exporters_wanted(environment: Mapping[str, str]) -> list[str]:
    """The exporters' names as their packages register them."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    listed = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if not listed and any(environment.get(name, "").strip() for name in _ENDPOINTS):
        listed = "otlp"
    names = [name.strip() for name in listed.split(",") if name.strip() not in ("", "none")]
    return [_otlp(environment) if name == "otlp" else name for name in names]


def _otlp(environment: Mapping[str, str]) -> str:
    protocol = next((found for name in _PROTOCOLS if (found := environment.get(name, "").strip())), "http/protobuf")
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def _exporter(name: str) -> SpanExporter:
    """An exporter by its name.

    Raises:
        LookupError: no installed package brings it.
        ImportError: what it needs is not installed.
    """
    found = next(iter(entry_points(group="opentelemetry_traces_exporter", name=name)), None)
    if found is None:
        raise LookupError(name)
    exporter: SpanExporter = found.load()()
    return exporter


def _observer(exporters: list[SpanExporter]) -> Observer:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from tierq_workers.observers.delivery import Delivery
    from tierq_workers.observers.spans import SpanObserver

    # Its own farewell at the interpreter's end may take half a minute.
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(Delivery(exporter)))
    # From here on it could only tell of deliveries, several lines at each try.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return SpanObserver(provider.get_tracer("tierq", version("tierq")), lambda: _shut_down(provider))


def _resource() -> Resource:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    named = OTELResourceDetector().detect().attributes.get("service.name", SERVICE_NAME)
    return Resource.create({"service.name": named})


def _shut_down(provider: TracerProvider) -> None:
    """Sends what is buffered. The provider's own patience cannot be set, so another thread has it."""
    sending = threading.Thread(target=provider.shutdown, name="tierq-traces", daemon=True)
    sending.start()
    sending.join(FLUSH_S)
