"""Hours of a queue in seconds: the real sweeper on a clock moved by hand, over a broker that loses messages or none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from support.simulated_broker import Marker, SimulatedBroker
from support.simulated_clock import SimulatedClock
from tierq_shared.settings import WorkerSettings
from tierq_shared.store import leases, submission
from tierq_shared.store.tables import chunks, tasks
from tierq_workers.sweeper import Sweeper
from unit.store.installation import Installation, new_task
from unit.store.simulated_worker import SimulatedWorker

EVERY_S = 5.0
"""Simulated time between two sweeps. Every fifth sweep looks for what was lost."""


@pytest.fixture(autouse=True)
def one_task_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many tasks a chunk has plays no part here."""
    monkeypatch.setattr(submission, "CHUNK_SIZE", 1)


class Site:
    """A store, a broker, one worker that claims a chunk now and then, and the sweeper it carries."""

    def __init__(self, here: Installation, broker: SimulatedBroker) -> None:
        self.here, self.broker = here, broker
        self.clock = SimulatedClock(here.store)
        self.started_at = self.clock.now
        self.worker = SimulatedWorker(here, broker)
        self.sweeper = Sweeper(here.store, broker, WorkerSettings(), lambda _ended: None)  # type: ignore[arg-type]
        self.claimed: set[str] = set()

    def submit(self, count: int, priority: int = 5) -> list[str]:
        """As many chunks, published."""
        batch = self.here.open()

        new = self.here.add(batch, [new_task(priority=priority)] * count).chunks
        assert len(new) == count
        self.here.seal(batch)
        self.broker.publish(new)
        self.here.store.write(lambda c: submission.mark_published(c, [chunk.id for chunk in new]))
        return [chunk.id for chunk in new]

    def pass_time(self, seconds: float, chunks_a_minute: float) -> Iterator[float]:
        """Sweeps, and lets the worker claim chunks at its pace; the simulated time after each round."""
        until, due = self.clock.after(seconds), 0.0
        while self.clock.now < until:
            self.clock.advance(EVERY_S)
            self.here.store.write(lambda c: leases.renew(c, self.worker.id, 30.0))
            self.sweeper.sweep(self.worker.id)
            due += chunks_a_minute * EVERY_S / 60
            while due >= 1 and len(self.broker):
                due -= self._receive()
            yield (self.clock.now - self.started_at).total_seconds()

    def _receive(self) -> int:
        """Takes the next message; 1 where it was a chunk."""
        message = self.broker.take("small")
        if message is None or isinstance(message, Marker):
            if message:
                self.worker.take(message)
            return 0
        self.worker.take(message)
        self.worker.commit(slots=100)
        self.claimed.add(message.id)
        return 1


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_broker_loses_is_found_by_markers_and_nothing_else_rings_again(here: Installation, seed: int) -> None:
    """Under load 1 message in 40 gets lost, ten times what was measured, also of those that are published again."""
    dice = random.Random(seed)
    site = Site(here, SimulatedBroker(loses=lambda: dice.random() < 1 / 40))
    waiting: list[str] = []
    for priority in (5, 9, 5, 5):
        waiting += site.submit(100, priority)
        for _ in site.pass_time(120.0, chunks_a_minute=40):
            pass
    for _ in site.pass_time(1_800.0, chunks_a_minute=40):
        if here.count(chunks) == 0:
            break
    assert site.broker.lost
    assert here.count(tasks, tasks.c.state == "queued") == 0
    assert site.claimed == set(waiting)
    again = {chunk: times - 1 for chunk, times in site.broker.rung.items() if times > 1}
    assert again == {chunk: site.broker.lost.count(chunk) for chunk in site.broker.lost}


def test_a_long_healthy_queue_is_never_flooded(here: Installation) -> None:
    """A thousand chunks of two priorities wait for an hour, or a part of it, for a worker that is slow."""
    span = 3_600.0 if here.store.is_sqlite else 600.0
    site = Site(here, SimulatedBroker())
    site.submit(900, priority=5)
    site.submit(100, priority=3)
    sizes = []
    for seconds in site.pass_time(span, chunks_a_minute=3):
        outstanding = here.count(chunks) + len(site.broker.markers)
        sizes.append(len(site.broker))
        assert sizes[-1] <= outstanding
        assert len(site.broker.markers) <= 2 * (1 + seconds / 60)
    assert set(site.broker.rung.values()) == {1}
    assert max(sizes) <= 1_000 + 2 * 60
    for place in (("small", 5), ("small", 3)):
        markers = [one for one in site.broker.markers if (one.tier, one.priority) == place]
        times = [datetime.fromisoformat(one.at) for one in markers]
        assert len(times) >= span / 90
        assert all((later - sooner).total_seconds() >= 60 for sooner, later in pairwise(times))
