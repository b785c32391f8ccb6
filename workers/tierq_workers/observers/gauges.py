"""What is not counted but read when Prometheus asks: the backlog in SQL, limits and breakers, the worker itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tierq_shared.settings import Settings
from tierq_shared.store import controls
from tierq_shared.store.backlog import TierBacklog, backlog
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import NOTHING_SET
from tierq_workers.observers.cached import Cached
from tierq_workers.observers.calls import OTHER
from tierq_workers.permits import figures
from tierq_workers.permits.history import History, Report
from tierq_workers.vitals import Vitals

_OF_TIERS: tuple[tuple[str, str, Callable[[TierBacklog], float]], ...] = (
    ("tierq_ready_tasks", "Tasks that could run now.", lambda one: one.ready),
    (
        "tierq_oldest_ready_seconds",
        "Since the oldest of them could; 0 where there is none.",
        lambda one: one.oldest_ready_s or 0.0,
    ),
    ("tierq_waiting_tasks", "Tasks that are not due yet, or paused.", lambda one: one.waiting),
    ("tierq_running_tasks", "Tasks that some worker has claimed.", lambda one: one.running),
    ("tierq_workers", "Workers with a running lease.", lambda one: one.workers),
    ("tierq_resting_seconds", "For how long the deployment chain rests.", lambda one: one.resting_s or 0.0),
    ("tierq_paused", "1 where an operator has paused the tier.", lambda one: one.is_paused),
)
"""Of all tiers, as SQL has it: every worker tells the same."""

_OF_WORKER: tuple[tuple[str, str, Callable[[Vitals], float]], ...] = (
    ("tierq_in_flight", "Calls of this worker that are under way.", lambda one: one.in_flight),
    ("tierq_slots", "Calls that may be under way at once.", lambda one: one.slots),
    ("tierq_lease_seconds", "What is left of the worker's lease.", lambda one: one.lease_left_s),
    ("tierq_loop_lag_seconds", "The latest that the event loop was in the last 15 seconds.", lambda one: one.lag_s),
    ("tierq_healthy", "1 where /healthz says that the worker is well.", lambda one: one.is_healthy),
)


class Gauges(Collector):
    """Reads all that can be read soon; what cannot has no sample. To be closed."""

    def __init__(self, store: Store, look: Callable[[], Vitals]) -> None:
        self._store = store
        self._look = look
        self._now_set = NOTHING_SET
        self._history: History | None = None
        self._seen_by: Settings | None = None
        self._backlog = Cached(self._read_backlog, lambda tiers: sum(one.workers for one in tiers.values()))
        self._report = Cached(self._read_report)

    def collect(self) -> Iterable[Metric]:
        vitals = self._look()
        yield from self._of_worker(vitals)
        yield from _of_tiers(self._backlog.get())
        yield from _of_deployments(self._report.get())

    def close(self) -> None:
        if self._history is not None:
            self._history.close()

    def _of_worker(self, vitals: Vitals) -> Iterator[Metric]:
        for name, help_, value in _OF_WORKER:
            family = GaugeMetricFamily(name, help_, labels=["tier"])
            family.add_metric([vitals.tier], value(vitals))
            yield family

    def _read_backlog(self) -> Mapping[str, TierBacklog]:
        self._now_set = controls.current(self._store)
        with self._store.reading() as connection:
            return _bounded(backlog(connection, self._now_set), self._look().settings)

    def _read_report(self) -> Report | None:
        """None where limits are this process's own: no state Redis is configured."""
        vitals = self._look()
        url = vitals.settings.state_url
        if url is None:
            return None
        if vitals.settings is not self._seen_by:
            self.close()
            self._history = History(url.get_secret_value(), vitals.settings, lambda: self._now_set)
            self._seen_by = vitals.settings
        names = [one.name for one in vitals.settings.called(vitals.tier)]
        return self._history.report(names) if self._history else None


def _bounded(seen: Mapping[str, TierBacklog], settings: Settings) -> Mapping[str, TierBacklog]:
    """Every tier of the configuration, and what tasks are on others together."""
    found = {tier: seen.get(tier, TierBacklog()) for tier in settings.tiers}
    for backlog_ in (one for tier, one in seen.items() if tier not in found):
        found[OTHER] = _together(found.get(OTHER, TierBacklog()), backlog_)
    return found


def _together(one: TierBacklog, other: TierBacklog) -> TierBacklog:
    return replace(
        one,
        ready=one.ready + other.ready,
        oldest_ready_s=max(one.oldest_ready_s or 0.0, other.oldest_ready_s or 0.0),
        waiting=one.waiting + other.waiting,
        running=one.running + other.running,
        workers=one.workers + other.workers,
    )


def _of_tiers(seen: Mapping[str, TierBacklog] | None) -> Iterator[Metric]:
    for name, help_, value in _OF_TIERS:
        family = GaugeMetricFamily(name, help_, labels=["tier"])
        for tier, one in (seen or {}).items():
            family.add_metric([tier], value(one))
        yield family


def _of_deployments(report: Report | None) -> Iterator[Metric]:
    for reading in figures.read(report):
        kind = CounterMetricFamily if reading.figure.kind == "counter" else GaugeMetricFamily
        family = kind(reading.figure.name, reading.figure.help, labels=[reading.label])
        for name, value in reading.values:
            family.add_metric([name], value)
        yield family
