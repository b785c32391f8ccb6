"""Sweeps make the broker agree with SQL: each slice finds what it must, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tierq_shared.settings import WorkerSettings
from tierq_shared.store import claims, leases, sweeps
from tierq_shared.store.clock import now
from tierq_shared.store.outcomes import Requeued
from tierq_shared.store.submission import mark_published
from tierq_shared.store.tables import attempts, batches, chunks, markers, tasks, workers
from tierq_workers import sweeper as sweeping
from tierq_workers.sweeper import Sweeper
from unit.store.installation import SUCCEEDED, Installation, new_attempt, new_task, step


def silent(here: Installation, batch_id: str, seconds: float = 10.0) -> None:
    """Its producer and the makers of its chunks have not been heard of for a while."""
    here.set(batches, batches.c.id == batch_id, producer_seen_at=now(-seconds))
    here.set(chunks, chunks.c.batch_id == batch_id, created_at=now(-seconds))


def rung(here: Installation) -> list[str]:
    return [chunk.id for chunk in here.read(sweeps.chunks_to_ring)]


def published(here: Installation, batch_id: str, seconds_ago: float) -> list[str]:
    ids = [chunk.id for chunk in here.chunks(batch_id)]
    here.store.write(lambda c: mark_published(c, ids))
    here.set(chunks, chunks.c.batch_id == batch_id, published_at=now(-seconds_ago))
    return ids


class Broker:
    """Takes what is published, and remembers it."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []
        self.markers: list[tuple[str, int]] = []

    def publish(self, some: list[Any]) -> None:
        self.chunks += some

    def publish_marker(self, tier: str, priority: int, at: str) -> None:
        self.markers.append((tier, priority))


def sweeper(here: Installation, broker: Broker) -> Sweeper:
    return Sweeper(here.store, broker, WorkerSettings(), lambda ended: None)  # type: ignore[arg-type]


# Ringing.


def test_an_unpublished_chunk_rings_once_its_maker_seems_gone(here: Installation) -> None:
    batch = here.submit([new_task()])
    assert rung(here) == []
    silent(here, batch)
    (found,) = here.read(sweeps.chunks_to_ring)
    assert found.task_ids == here.ids(batch)
    here.store.write(lambda c: mark_published(c, [found.id]))
    assert rung(here) == []


def test_a_publisher_that_is_still_at_work_is_left_alone(here: Installation) -> None:
    batch = here.submit([new_task()])
    here.set(chunks, chunks.c.batch_id == batch, created_at=now(-100))
    assert rung(here) == []


@pytest.mark.parametrize(("streaming", "rings"), [(False, False), (True, True)])
def test_an_open_batch_rings_only_where_it_streams(here: Installation, streaming: bool, rings: bool) -> None:
    batch = here.open(streaming=streaming)
    here.add(batch, [new_task()])
    silent(here, batch)
    assert bool(rung(here)) is rings


def test_a_given_up_batch_never_rings(here: Installation) -> None:
    batch = here.open(streaming=True)
    here.add(batch, [new_task()])
    here.abort(batch)
    silent(here, batch)
    assert rung(here) == []


def test_a_waiting_chunk_rings_when_it_is_due(here: Installation) -> None:
    batch, worker = here.submit([new_task()]), here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), Requeued("small", after_s=30.0)))
    due = here.task(here.ids(batch)[0]).chunk_id
    assert due not in rung(here)
    here.set(chunks, chunks.c.id == due, not_before=now(-0.01))
    assert due in rung(here)


def test_the_higher_priority_rings_first(here: Installation) -> None:
    batch = here.submit([new_task(priority=1), new_task(priority=9), new_task(priority=5)])
    silent(here, batch)
    assert [chunk.priority for chunk in here.read(sweeps.chunks_to_ring)] == [9, 5, 1]


def test_a_chunk_that_nothing_waits_in_is_forgotten(here: Installation) -> None:
    batch, worker = here.submit([new_task()]), here.worker()
    here.claim(worker, here.ids(batch))
    silent(here, batch)
    broker = Broker()
    sweeper(here, broker).sweep(worker)
    assert (broker.chunks, here.chunks(batch)) == ([], [])


# Dead workers.


def test_a_dead_workers_tasks_are_queued_again_and_its_calls_stay_charged(here: Installation) -> None:
    batch, worker = here.submit([new_task() for _ in range(2)]), here.worker()
    first, second = here.claim(worker, here.ids(batch)).taken
    here.commit(worker, step(first, new_attempt(first[0], ordinal=2), cost=10, outcome="overloaded"))
    assert here.read(sweeps.dead_workers) == []
    here.kill(worker)
    assert here.read(sweeps.dead_workers) == [worker]
    settled, cut = here.settle(worker)
    assert settled
    assert sorted(id_ for chunk in cut for id_ in chunk.task_ids) == sorted(here.ids(batch))
    row = here.task(first[0].id)
    assert (row.state, row.worker_id, row.epoch, row.cost_nusd, row.attempts) == ("queued", None, 1, 1_010, 2)
    assert [(one.outcome, one.cost_nusd) for one in here.ledger(row.id)] == [("overloaded", 10), ("unknown", 1_000)]
    assert here.task(second[0].id).cost_nusd == 1_000
    assert here.count(workers) == 0
    assert {row.chunk_id for row in map(here.task, here.ids(batch))} == {chunk.id for chunk in cut}


def test_an_unpriced_call_of_a_dead_worker_makes_the_cost_unknown(here: Installation) -> None:
    batch, worker = here.submit([new_task()]), here.worker()
    here.claim_one(worker, here.ids(batch)[0], reserved=None)
    here.kill(worker)
    here.settle(worker)
    assert here.task(here.ids(batch)[0]).cost_nusd is None


@pytest.mark.parametrize(("max_attempts", "state"), [(2, "failed"), (3, "queued")])
def test_a_task_whose_attempts_are_used_up_ends_with_its_worker(
    here: Installation, max_attempts: int, state: str
) -> None:
    """It may be what kills the workers. Its cost and its tally hold the call that was under way."""
    batch, worker = here.submit([new_task()]), here.worker()
    taken = here.claim_one(worker, here.ids(batch)[0])
    here.commit(worker, step(taken, new_attempt(taken[0], ordinal=2), cost=10, outcome="overloaded"))
    here.kill(worker)
    here.settle(worker, max_attempts)
    row = here.task(taken[0].id)
    assert (row.state, row.worker_id, row.cost_nusd) == (state, None, 1_010)
    assert here.count(attempts, attempts.c.outcome == "started") == 0
    progress = here.progress(batch)
    assert (progress.failed, progress.cost_nusd) == ((1, 1_010) if state == "failed" else (0, 0))


def test_a_stopped_worker_is_settled_at_once_and_a_renewed_one_is_not(here: Installation) -> None:
    stopped, renewed = here.worker(), here.worker()
    here.store.write(lambda c: leases.stop_worker(c, stopped))
    assert here.store.write(lambda c: leases.renew(c, renewed, 60.0))
    assert here.read(sweeps.dead_workers) == [stopped]


def test_a_dead_worker_is_settled_in_slices(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "SLICE", 2)
    batch, worker = here.submit([new_task() for _ in range(5)]), here.worker()
    here.claim(worker, here.ids(batch))
    here.kill(worker)
    slices = []
    while not slices or not slices[-1][0]:
        slices.append(here.settle(worker))
    assert [(settled, sum(len(one.task_ids) for one in cut)) for settled, cut in slices] == [
        (False, 2),
        (False, 2),
        (True, 1),
    ]


def test_a_dead_workers_chunks_ring_again_at_once(here: Installation) -> None:
    batch, worker = here.submit([new_task()]), here.worker()
    (id_,) = published(here, batch, 1.0)
    here.store.write(lambda c: claims.receive(c, worker, [id_]))
    here.kill(worker)
    assert rung(here) == []
    here.settle(worker)
    assert rung(here) == [id_]


# Deadlines and cancels.


def test_a_waiting_task_expires_at_its_deadline(here: Installation) -> None:
    batch, worker = here.submit([new_task(), new_task(), new_task()]), here.worker()
    late, running, soon = here.ids(batch)
    here.set(tasks, tasks.c.id.in_([late, running]), deadline=now(-1))
    here.set(tasks, tasks.c.id == running, state="running", worker_id=worker)
    here.set(tasks, tasks.c.id == soon, deadline=now(60))
    assert here.store.write(lambda c: sweeps.expire_tasks(c, worker)) == [(batch, 0)]
    row = here.task(late)
    assert (row.state, row.error_code, row.chunk_id) == ("expired", "deadline", None)
    assert here.progress(batch).expired == 1
    assert here.store.write(lambda c: sweeps.expire_tasks(c, worker)) == []


def test_a_cancelled_batch_is_settled_in_slices(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "SLICE", 2)
    batch, worker = here.submit([new_task() for _ in range(5)]), here.worker()
    here.claim_one(worker, here.ids(batch)[1])
    assert here.read(sweeps.cancelled_batches) == []
    here.cancel(batch)
    assert here.read(sweeps.cancelled_batches) == [(batch, "running")]
    seen: list[int] = []
    while found := here.store.write(
        partial(sweeps.cancel_tasks, sweeper_id=worker, batch_id=batch, after_position=max(seen, default=-1))
    ):
        assert len(found) <= 2
        seen += [position for _, position in found]
    assert seen == [0, 2, 3, 4]
    here.finish(batch)
    assert here.progress(batch).finished_at is None


@pytest.mark.parametrize("sweeps_needed", [1, 3])
def test_a_given_up_batch_is_settled_to_its_last_task(
    here: Installation, monkeypatch: pytest.MonkeyPatch, sweeps_needed: int
) -> None:
    """A batch of more tasks than one sweep takes is not closed before they have all ended."""
    monkeypatch.setattr(sweeps, "SLICE", 2)
    monkeypatch.setattr(sweeping, "_SLICES", 2 if sweeps_needed > 1 else 50)
    batch, worker = here.open(), here.worker()
    here.add(batch, [new_task() for _ in range(9)])
    here.abort(batch)
    one = sweeper(here, Broker())
    for _ in range(sweeps_needed):
        one.sweep(worker)
    assert here.count(tasks, tasks.c.state == "cancelled") == 9
    assert here.one(batches).finished_at is not None


def test_no_chunk_row_outlives_its_batch(here: Installation) -> None:
    """A chunk's row lives until none of its tasks needs a claim any more."""
    waits, given_up, worker = here.submit([new_task()]), here.open(), here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(waits)[0]), Requeued("small", after_s=60.0)))
    here.cancel(waits)
    here.add(given_up, [new_task()])
    here.abort(given_up)
    one = sweeper(here, Broker())
    for batch in (waits, given_up):
        silent(here, batch)
    for _ in range(10):
        one.sweep(worker)
        here.set(chunks, chunks.c.not_before.is_not(None), not_before=now(-1))
    assert here.progress(waits).finished_at is not None
    assert here.count(chunks) == 0


# Lost messages.


def test_a_lost_chunk_is_found_by_a_marker_that_came_through(here: Installation) -> None:
    lost = here.submit([new_task()])
    (id_,) = published(here, lost, 120.0)
    assert here.read(sweeps.markers_due, 60.0) == [("small", 5)]
    at = here.store.write(lambda c: sweeps.start_marker(c, "small", 5))
    assert here.store.write(sweeps.ring_lost_chunks) == 0
    here.store.write(lambda c: sweeps.marker_received(c, "small", 5, at))
    assert here.store.write(sweeps.ring_lost_chunks) == 1
    assert rung(here) == [id_]
    assert here.store.write(sweeps.ring_lost_chunks) == 0


def test_what_a_marker_does_not_prove_lost_stays_as_it_is(here: Installation) -> None:
    """Received chunks, other queues and priorities, and what went out shortly before the marker."""
    worker = here.worker()
    received = here.submit([new_task()])
    ids = published(here, received, 120.0)
    here.store.write(lambda c: claims.receive(c, worker, ids))
    for batch, ago in (
        (here.submit([new_task(tier="large")]), 120.0),
        (here.submit([new_task(priority=9)]), 120.0),
        (here.submit([new_task()]), 20.0),
    ):
        published(here, batch, ago)
    at = here.store.write(lambda c: sweeps.start_marker(c, "small", 5))
    here.store.write(lambda c: sweeps.marker_received(c, "small", 5, at))
    assert here.store.write(sweeps.ring_lost_chunks) == 0


def test_a_long_healthy_queue_never_rings_again_and_gets_one_marker_a_minute(here: Installation) -> None:
    for _ in range(3):
        published(here, here.submit([new_task(), new_task(priority=9)]), 3_600.0)
    broker, worker = Broker(), here.worker()
    one = sweeper(here, broker)
    for _ in range(30):
        one.sweep(worker)
    assert broker.chunks == []
    assert sorted(broker.markers) == [("small", 5), ("small", 9)]
    here.set(markers, published_at=now(-61))
    for _ in range(5):
        one.sweep(worker)
    assert sorted(broker.markers) == [("small", 5)] * 2 + [("small", 9)] * 2
    assert broker.chunks == []


def test_an_older_marker_that_arrives_late_takes_nothing_back(here: Installation) -> None:
    first = here.store.write(lambda c: sweeps.start_marker(c, "small", 5))
    second = here.store.write(lambda c: sweeps.start_marker(c, "small", 5))
    for at in (second, first, first - timedelta(days=1)):
        here.store.write(lambda c, at=at: sweeps.marker_received(c, "small", 5, at))
    assert here.one(markers).proves_until == second


# Leases.


def test_a_named_lease_has_one_holder_until_it_runs_out(here: Installation) -> None:
    from tierq_shared.store.tables import leases as rows

    def take(holder: str) -> bool:
        return here.store.write(lambda c: leases.take(c, "sweep", holder, 60.0))

    assert take("a")
    assert take("a")
    assert not take("b")
    assert here.read(leases.held_by_another, "sweep", "b")
    assert not here.read(leases.held_by_another, "sweep", "a")
    here.set(rows, until=now(-1))
    assert not here.read(leases.held_by_another, "sweep", "b")
    assert take("b")
    assert not take("a")


def test_a_lease_that_is_over_cannot_be_renewed(here: Installation) -> None:
    worker, other = here.worker(), here.worker("large")
    assert here.read(leases.live_workers) == {"small": 1, "large": 1}
    here.kill(worker)
    assert not here.store.write(lambda c: leases.renew(c, worker, 60.0))
    assert here.read(leases.live_workers) == {"large": 1}
    here.store.write(lambda c: leases.stop_worker(c, other))
    assert not here.store.write(lambda c: leases.renew(c, other, 60.0))


def test_a_sweep_is_left_to_the_one_who_holds_it(here: Installation) -> None:
    first, second = here.worker(), here.worker()
    assert sweeper(here, Broker()).sweep(first)
    assert not sweeper(here, Broker()).sweep(second)


def test_a_sweep_ends_what_a_worker_left(here: Installation) -> None:
    batch, worker, other = here.submit([new_task()]), here.worker(), here.worker()
    here.claim(worker, here.ids(batch))
    here.kill(worker)
    broker = Broker()
    one = sweeper(here, broker)
    one.sweep(other)
    assert [chunk.task_ids for chunk in broker.chunks] == [here.ids(batch)]
    here.commit(other, step(here.claim_one(other, here.ids(batch)[0]), SUCCEEDED))
    for _ in range(5):
        one.sweep(other)
    assert here.progress(batch).state == "finished"
    assert here.count(attempts, attempts.c.outcome == "started") == 0
