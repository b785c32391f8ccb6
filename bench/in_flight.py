"""Many tasks in flight in one worker process, and a second process that comes late

Rates are those of the ledger between the moments at which 10 % and 90 % of the tasks had ended (SQLite). The ideal rate
is what the latency allows: tasks in flight ÷ latency. An ideal of 2,000/s is beyond one core of most machines, so the
same is measured at 1,000/s too: with half the tasks in flight, and at twice the latency.

The second process starts while the first works on a backlog. Counted are the attempts of each from the second's first
one on; both are bound by latency (200 ms, 50 in flight each), not by the core they share.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from bench import ours, workload
from bench.machine import cpu_seconds, peak_rss_mb
from bench.report import Figure, Samples
from bench.stack import Stack
from tierq import Batch, Client
from tierq_shared.settings import Settings
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

SHARE = 0.85
RSS_MB = 200.0
EVENNESS = 0.8
"""The lesser share ÷ the greater one."""

_SHARED_LATENCY_MS = 200.0
_SHARED_IN_FLIGHT = 50
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How many tasks at once, at which latency of the provider."""

    in_flight: int
    latency_ms: int
    tasks: int

    @property
    def ideal(self) -> float:
        return self.in_flight / self.latency_ms * 1000

    def __str__(self) -> str:
        return f"{self.in_flight:,} in flight at {self.latency_ms:,} ms"


SETTINGS = (Setting(1_000, 500, 20_000), Setting(500, 500, 12_000), Setting(1_000, 1_000, 12_000))


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker process did with one setting."""

    rate: float
    cpu_ms: float
    peak_mb: float


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """The three settings in turn, then the two processes."""
    backlog, rounds = (3_000, 1) if quick else (6_000, 3)
    found: dict[Setting, list[Run]] = {setting: [] for setting in SETTINGS}
    for _ in range(rounds):
        for setting, runs in found.items():
            runs.append(one_process(stack, setting, setting.tasks // 4 if quick else setting.tasks))
    figures = [figure for setting, runs in found.items() for figure in _figures(setting, runs)]
    shares = Samples([two_processes(stack, backlog) for _ in range(rounds)])
    return [*figures, Figure("A backlog's lesser share ÷ the greater, two processes", "×", shares, at_least=EVENNESS)]


def one_process(stack: Stack, setting: Setting, count: int) -> Run:
    """One worker process with as many slots as the setting has tasks in flight."""
    with stack.simulator(setting.latency_ms) as base_url, stack.database("SQLite") as url:
        settings = stack.configure(url, base_url, max_in_flight=setting.in_flight)
        with stack.worker(settings) as worker, Client(settings=settings) as client:
            ours.warm_up(client, setting.in_flight)
            used = cpu_seconds(worker.pid)
            batch = client.submit_many(workload.tasks(count))
            ours.finish(batch, timeout=_LIMIT_S)
            used = cpu_seconds(worker.pid) - used
            return Run(steady_rate(settings, batch), used / count * 1000, peak_rss_mb(worker.pid))


def steady_rate(settings: Settings, batch: Batch[str]) -> float:
    """Tasks a second, from when a tenth of them had ended until only a tenth was left."""
    store = _store(settings)
    statement = select(tasks.c.finished_at).where(tasks.c.batch_id == batch.id).order_by(tasks.c.finished_at)
    with store.reading() as connection:
        ended = connection.execute(statement).scalars().all()
    store.close()
    first, last = len(ended) // 10, len(ended) * 9 // 10
    return (last - first) / (ended[last] - ended[first]).total_seconds()


def two_processes(stack: Stack, count: int) -> float:
    """The lesser share ÷ the greater one of what was started after the second process began to work."""
    with stack.simulator(_SHARED_LATENCY_MS) as base_url, stack.database("SQLite") as url:
        settings = stack.configure(url, base_url, max_in_flight=_SHARED_IN_FLIGHT)
        with stack.worker(settings), Client(settings=settings) as client:
            ours.warm_up(client, _SHARED_IN_FLIGHT)
            batch = client.submit_many(workload.tasks(count))
            _await_share(batch, count // 10)
            with stack.worker(settings):
                ours.finish(batch, timeout=_LIMIT_S)
                shares = attempts_by_worker(settings, batch)
    if len(shares) < 2:
        raise RuntimeError("the second worker process had no attempt")
    return min(shares) / max(shares)


def attempts_by_worker(settings: Settings, batch: Batch[str]) -> Sequence[int]:
    """How many attempts each worker process began since all of them were at work."""
    store = _store(settings)
    of_batch = attempts.join(tasks, tasks.c.id == attempts.c.task_id)
    begins = (
        select(func.min(attempts.c.started_at).label("at"))
        .select_from(of_batch)
        .where(tasks.c.batch_id == batch.id)
        .group_by(attempts.c.worker_id)
        .subquery()
    )
    counts = (
        select(func.count())
        .select_from(of_batch)
        .where(tasks.c.batch_id == batch.id, attempts.c.started_at >= select(func.max(begins.c.at)).scalar_subquery())
        .group_by(attempts.c.worker_id)
    )
    with store.reading() as connection:
        found = connection.execute(counts).scalars().all()
    store.close()
    return found


def _await_share(batch: Batch[str], done: int) -> None:
    until = time.monotonic() + _LIMIT_S
    while batch.progress().done < done:
        if time.monotonic() > until:
            raise RuntimeError(f"the first worker process did not end {done} tasks within {_LIMIT_S:g} s")
        time.sleep(0.1)


def _figures(setting: Setting, runs: list[Run]) -> list[Figure]:
    rates = Samples([run.rate for run in runs])
    cpu = Samples([run.cpu_ms for run in runs]).median
    note = f"ideal {setting.ideal:,.0f}/s; {cpu:.2f} ms of CPU a task"
    return [
        Figure(f"{setting}", "tasks/s", rates, at_least=SHARE * setting.ideal, note=note),
        Figure(f"{setting}: peak memory", "MB", Samples([run.peak_mb for run in runs]), at_most=RSS_MB),
    ]


def _store(settings: Settings) -> Store:
    assert settings.database_url is not None
    return Store(settings.database_url.get_secret_value())
