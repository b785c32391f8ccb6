"""Counts what a worker does, for Prometheus, and serves it with what there is to be read at the moment."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from tierq_shared.settings import Settings
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.connection import Store
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_workers.fates import FATES
from tierq_workers.observers.base import Observer
from tierq_workers.observers.calls import OTHER, Calls
from tierq_workers.observers.gauges import Gauges
from tierq_workers.serving import Serving
from tierq_workers.vitals import Vitals

_STORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class PrometheusObserver(Observer):
    """Counts on a registry of its own, and serves it on the configured port."""

    def __init__(self, settings: Settings, tier: str) -> None:
        # As many series again, of which nobody asks anything.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self.registry = CollectorRegistry()
        self._configured: Callable[[], Settings] = lambda: settings
        self._where = settings.metrics
        self._serving: Serving | None = None
        self._gauges: Gauges | None = None
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        info = Info("tierq_worker", "The worker's tier and release.", registry=self.registry)
        info.info({"tier": tier, "version": version("tierq")})
        self._calls = Calls(one.name for one in settings.called(tier))
        self.registry.register(self._calls)
        self._tasks = Counter(
            "tierq_tasks", "Claims that are over, by what became of the task.", ["tier", "fate"], registry=self.registry
        )
        self._add_recorder()
        self._add_sweeper()
        self._of_fate = {(tier, fate): self._tasks.labels(tier, _word(fate)) for fate in FATES}

    def _add_recorder(self) -> None:
        registry = self.registry
        self._commits = Histogram(
            "tierq_commit_seconds", "What group commits took.", buckets=_STORE_BUCKETS, registry=registry
        )
        self._outcomes = Counter("tierq_committed_outcomes", "Ends of calls that are committed.", registry=registry)
        self._claims = Counter("tierq_claims", "Tasks that this worker has claimed.", registry=registry)

    def _add_sweeper(self) -> None:
        registry = self.registry
        self._sweeps = Counter("tierq_sweeps", "Sweeps of this worker.", registry=registry)
        self._sweep_seconds = Histogram(
            "tierq_sweep_seconds", "What sweeps took.", buckets=_STORE_BUCKETS, registry=registry
        )
        self._requeued = Counter(
            "tierq_requeued_tasks", "Tasks of dead workers that this worker's sweeps queued again.", registry=registry
        )
        self._lost = Counter(
            "tierq_lost_chunks", "Chunks that the broker had lost, found by this worker's sweeps.", registry=registry
        )

    def begins(self, store: Store, look: Callable[[], Vitals]) -> None:
        self._configured = lambda: look().settings
        self._gauges = Gauges(store, look)
        self.registry.register(self._gauges)
        self._serving = Serving(self._where, self.registry, look)
        self._serving.start()

    def answered(self, _task: ClaimedTask, attempt: NewAttempt, result: AttemptResult) -> None:
        calls = self._calls.of(attempt.deployment)
        if calls is None:
            # SIGHUP has brought it, or nobody configured it.
            is_known = attempt.deployment in self._configured().deployments
            calls = self._calls.add(attempt.deployment if is_known else OTHER)
        calls.count(result)

    def ended(self, task: ClaimedTask, fate: str) -> None:
        counter = self._of_fate.get((task.tier, fate))
        if counter is None:
            tier = task.tier if task.tier in self._configured().tiers else OTHER
            counter = self._tasks.labels(tier, _word(fate) if fate in FATES else OTHER)
        counter.inc()

    def committed(self, outcomes: int, claims: int, seconds: float) -> None:
        self._commits.observe(seconds)
        self._outcomes.inc(outcomes)
        self._claims.inc(claims)

    def swept(self, seconds: float) -> None:
        self._sweeps.inc()
        self._sweep_seconds.observe(seconds)

    def requeued(self, tasks: int) -> None:
        self._requeued.inc(tasks)

    def lost(self, chunks: int) -> None:
        self._lost.inc(chunks)

    def close(self) -> None:
        if self._serving is not None:
            self._serving.close()
        if self._gauges is not None:
            self._gauges.close()


def _word(fate: str) -> str:
    return fate.replace(" ", "_")
