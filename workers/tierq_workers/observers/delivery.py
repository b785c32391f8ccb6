"""Hands spans to an exporter, and says once when they cannot be delivered."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger("tierq.worker")


class Delivery(SpanExporter):
    """An exporter whose failures are heard of once, until it succeeds again: the worker's work is not about traces."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # the SDK would log its traceback, at every try
            result = SpanExportResult.FAILURE
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning("traces cannot be delivered, see OTEL_EXPORTER_OTLP_ENDPOINT: they are dropped until they can")
        elif self._fails and not fails:
            log.warning("traces are delivered again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
