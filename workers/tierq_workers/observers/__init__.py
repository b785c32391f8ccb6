"""Who watches a worker: one file a sink. `base` is the map of what there is to be seen."""

from __future__ import annotations

from tierq_shared.settings import Settings
from tierq_workers.observers.base import Observer, Observers


def make_observer(settings: Settings, tier: str) -> Observers:
    """All that watch a worker of this configuration: its log, Prometheus and OpenTelemetry where they are wanted."""
    from tierq_workers.observers.logs import LogObserver
    from tierq_workers.observers.tracing import tracer_if_configured

    sinks: list[Observer] = [LogObserver()]
    if settings.metrics.port:
        from tierq_workers.observers.prometheus import PrometheusObserver

        sinks.append(PrometheusObserver(settings, tier))
    if (tracer := tracer_if_configured()) is not None:
        sinks.append(tracer)
    return Observers(sinks)
