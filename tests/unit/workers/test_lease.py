"""A lease is renewed while the loop ticks, and given up before others may take its tasks. In simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from support.simulated_clock import SimulatedClock
from support.simulated_loop import run
from tierq_shared.store import leases, sweeps
from tierq_shared.store.tables import workers
from tierq_workers import lease as leasing
from tierq_workers.lease import SAFETY_SHARE, Lease
from unit.store.installation import Installation

SECONDS = 30.0


class Threads(Executor):
    """Runs what it is given at once; while it hangs, never."""

    def __init__(self) -> None:
        self.hangs = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if not self.hangs:
            try:
                future.set_result(work(*args, **options))
            except Exception as error:
                future.set_exception(error)
        return future


class Process:
    """One worker process: its lease over a store that can fail or hang."""

    def __init__(self, here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.clock, self.threads = here, SimulatedClock(here.store), Threads()
        self.fails = False
        self.lost_at: list[float] = []
        self.began_at = self.clock.now
        monkeypatch.setattr(leasing, "time", SimpleNamespace(monotonic=lambda: self.at))
        self.lease = Lease(self, self.threads, "small", "1", SECONDS, self._lose)  # type: ignore[arg-type]

    def write(self, work: Callable[..., Any]) -> Any:
        if self.fails:
            raise OperationalError("BEGIN", None, Exception("connection refused"))
        return self.here.store.write(work)

    def run(self, story: Callable[[], Any]) -> None:
        """Begins, keeps the lease, and ends when the story does."""

        async def whole() -> None:
            await self.lease.begin()
            keeping = asyncio.create_task(self.lease.keep())
            await story()
            keeping.cancel()

        run(self.clock, whole())

    @property
    def at(self) -> float:
        return (self.clock.now - self.began_at).total_seconds()

    def is_alive(self) -> bool:
        """What the store says of this incarnation."""
        found = self.here.rows(workers, workers.c.id == self.lease.worker_id, workers.c.stopped_at.is_(None))
        return bool(found) and found[0].lease_until > self.clock.now

    def _lose(self) -> None:
        self.lost_at.append(self.at)


@pytest.fixture
def process(here: Installation, monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(here, monkeypatch)


def test_a_lease_is_renewed_while_the_loop_ticks(process: Process) -> None:
    async def story() -> None:
        first = process.lease.worker_id
        for _ in range(600):
            await asyncio.sleep(1)
            row = process.here.one(workers)
            assert (row.lease_until - process.clock.now).total_seconds() > SECONDS * 0.7
        assert process.lease.worker_id == first

    process.run(story)
    assert process.lost_at == []


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
@pytest.mark.parametrize("since", [0.0, 3.0, 14.9, 52.0])
def test_calls_are_cancelled_before_others_may_take_the_tasks(process: Process, trouble: str, since: float) -> None:
    """The store goes away at some time between two renewals."""

    async def story() -> None:
        await asyncio.sleep(since)
        process.fails, process.threads.hangs = trouble == "fails", trouble == "hangs"
        (last,) = [row.lease_until for row in process.here.rows(workers)]
        while not process.lost_at:  # noqa: ASYNC110  # the clock moves only while someone sleeps
            await asyncio.sleep(0.05)
        renewed_at = (last - process.began_at).total_seconds() - SECONDS
        assert process.lost_at[0] - renewed_at <= SECONDS * SAFETY_SHARE + 0.1
        assert process.lost_at[0] - renewed_at > SECONDS / 2, "passing troubles must not end a lease"
        assert process.here.read(sweeps.dead_workers) == []

    process.run(story)


def test_a_passing_trouble_costs_no_incarnation(process: Process) -> None:
    async def story() -> None:
        first = process.lease.worker_id
        await asyncio.sleep(5)
        process.fails = True
        await asyncio.sleep(15)
        process.fails = False
        for _ in range(60):
            await asyncio.sleep(1)
            assert process.is_alive()
        assert process.lease.worker_id == first

    process.run(story)
    assert process.lost_at == []


def test_a_new_incarnation_begins_once_the_store_is_back(process: Process) -> None:
    async def story() -> None:
        first = process.lease.worker_id
        process.fails = True
        await asyncio.sleep(300)
        assert process.lease.worker_id == first
        process.fails = False
        await asyncio.sleep(2)
        assert process.lease.worker_id != first
        for _ in range(120):
            await asyncio.sleep(1)
            assert process.is_alive()

    process.run(story)
    assert len(process.lost_at) == 1


@pytest.mark.parametrize("how", ["over", "stopped", "settled"])
def test_a_lease_that_the_store_says_is_over_is_replaced_at_the_next_renewal(process: Process, how: str) -> None:
    async def story() -> None:
        first = process.lease.worker_id
        if how == "over":
            process.here.kill(first)
        elif how == "stopped":
            process.here.store.write(lambda c: leases.stop_worker(c, first))
        else:
            process.here.settle(first)
        await asyncio.sleep(SECONDS / 4 + 0.1)
        assert process.lease.worker_id != first
        assert process.is_alive()

    process.run(story)
    assert len(process.lost_at) == 1


def test_a_loop_that_stood_still_gives_its_lease_up(process: Process) -> None:
    """Whether another has taken its tasks is not asked: the store may say the lease runs, by a clock that jumped."""

    async def story() -> None:
        first = process.lease.worker_id
        await asyncio.sleep(1)
        process.clock.advance(SECONDS * SAFETY_SHARE)  # nothing ticks meanwhile
        await asyncio.sleep(0.1)
        assert process.lease.worker_id != first
        assert process.is_alive()

    process.run(story)
    assert len(process.lost_at) == 1


def test_a_process_that_ends_is_not_waited_for(process: Process) -> None:
    async def story() -> None:
        assert process.here.read(sweeps.dead_workers) == []
        await process.lease.end()
        assert process.here.read(sweeps.dead_workers) == [process.lease.worker_id]

    process.run(story)
