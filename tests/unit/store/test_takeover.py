"""What is left behind is taken over: in time, by one sweeper, and never by what its former owner says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from support.simulated_broker import SimulatedBroker
from support.simulated_clock import SimulatedClock
from tierq_shared.queues import Chunk
from tierq_shared.settings import WorkerSettings
from tierq_shared.store import leases, sweeps
from tierq_shared.store.outcomes import Requeued
from tierq_shared.store.tables import attempts, batches, chunks, tasks, workers
from tierq_workers.sweeper import Sweeper
from unit.store.installation import FAILED, SUCCEEDED, Installation, new_task, step
from unit.store.simulated_worker import LEASE_S, SimulatedWorker

SETTINGS = WorkerSettings()


def sweeper(here: Installation, broker: SimulatedBroker) -> Sweeper:
    return Sweeper(here.store, broker, SETTINGS, lambda _ended: None)  # type: ignore[arg-type]


def received(here: Installation, worker: SimulatedWorker, batch: str) -> Chunk:
    """A batch's one chunk comes in at a worker, by way of the broker."""
    (row,) = here.chunks(batch)
    chunk = Chunk(row.id, batch, row.tier, row.priority, here.ids(batch))
    worker.take(chunk)
    return chunk


def sweep_until(clock: SimulatedClock, one: Sweeper, holder: str, is_so: Callable[[], bool]) -> float:
    """Sweeps at the default pace until something is so; how many simulated seconds that took."""
    began = clock.now
    while not is_so():
        clock.advance(SETTINGS.sweep_every)
        assert (clock.now - began).total_seconds() < 600, "it never came to be"
        one.sweep(holder)
    return (clock.now - began).total_seconds()


# In time.


@pytest.mark.parametrize("renewed", [True, False], ids=["just_renewed", "about_to_renew"])
def test_a_dead_workers_tasks_run_again_within_a_minute(here: Installation, renewed: bool) -> None:
    """With the default lease and pace. Another worker may have held the sweep when it died."""
    assert SETTINGS.lease == LEASE_S
    clock, broker = SimulatedClock(here.store), SimulatedBroker()
    victim, other = SimulatedWorker(here, broker), SimulatedWorker(here, broker)
    batch = here.submit([new_task() for _ in range(3)])
    received(here, victim, batch)
    victim.commit(slots=2)
    assert sweeper(here, broker).sweep(victim.id)
    if renewed:
        assert here.store.write(lambda c: leases.renew(c, victim.id, LEASE_S))
    else:
        clock.advance(LEASE_S / 4)

    def all_rang() -> bool:
        here.set(workers, workers.c.id == other.id, lease_until=clock.after(LEASE_S))
        return {id_ for queue in broker.queues.values() for chunk in queue for id_ in chunk.task_ids} == set(
            here.ids(batch)
        )

    assert sweep_until(clock, sweeper(here, broker), other.id, all_rang) <= 60
    while (message := broker.take("small")) is not None:
        other.take(message)
    other.commit(slots=3)
    assert {task.id for task, _ in other.runs} == set(here.ids(batch))
    assert here.count(chunks) == 0


def test_what_its_producer_never_published_rings_within_seconds(here: Installation) -> None:
    clock, broker, worker = SimulatedClock(here.store), SimulatedBroker(), here.worker(lease_s=900.0)
    here.submit([new_task()])
    took = sweep_until(clock, sweeper(here, broker), worker, lambda: len(broker) == 1)
    assert sweeps.PUBLISHER_GRACE_S <= took <= sweeps.PUBLISHER_GRACE_S + 2 * SETTINGS.sweep_every


def test_a_wait_is_over_when_it_is_due(here: Installation) -> None:
    clock, broker = SimulatedClock(here.store), SimulatedBroker()
    worker = here.worker(lease_s=900.0)
    taken = here.claim_one(worker, here.ids(here.submit([new_task()]))[0])
    here.commit(worker, step(taken, Requeued("small", after_s=42.0)))
    assert 42 <= sweep_until(clock, sweeper(here, broker), worker, lambda: len(broker) == 1) <= 44


def test_batches_end_and_deadlines_pass_while_the_broker_is_down(here: Installation) -> None:
    """Something waits to be published the whole time: that must hold up nothing that needs no broker."""
    clock, broker, worker = SimulatedClock(here.store), SimulatedBroker(), here.worker(lease_s=900.0)
    broker.is_down = True
    here.submit([new_task()])
    late, cancelled = here.submit([new_task(deadline=clock.after(30))]), here.submit([new_task()])
    ended = here.submit([new_task()])
    here.commit(worker, step(here.claim_one(worker, here.ids(ended)[0]), SUCCEEDED))
    here.cancel(cancelled)
    three = (late, cancelled, ended)
    all_over = partial(_all_over, here, three)
    assert sweep_until(clock, sweeper(here, broker), worker, all_over) < 45
    assert (here.progress(late).expired, here.progress(cancelled).cancelled) == (1, 1)


def _all_over(here: Installation, ids: tuple[str, ...]) -> bool:
    return here.count(batches, batches.c.id.in_(ids), batches.c.finished_at.is_not(None)) == len(ids)


# By one.


def test_two_sweepers_at_once_settle_a_worker_once(on_postgres: Installation) -> None:
    here = on_postgres
    batch, dead = here.submit([new_task() for _ in range(60)]), here.worker()
    here.claim(dead, here.ids(batch))
    here.kill(dead)
    together = threading.Barrier(4)

    def settle(name: str) -> list[Chunk]:
        together.wait()
        settled = here.store.write(lambda c: sweeps.settle_worker(c, dead, name, 10))
        assert settled.is_done
        return settled.chunks

    with ThreadPoolExecutor(4) as pool:
        cut = [chunk for some in pool.map(settle, "abcd") for chunk in some]
    assert sorted(id_ for chunk in cut for id_ in chunk.task_ids) == sorted(here.ids(batch))
    assert {row.chunk_id for row in map(here.task, here.ids(batch))} == {chunk.id for chunk in cut}
    assert [row.outcome for row in here.rows(attempts)] == ["unknown"] * 60
    assert {row.cost_nusd for row in here.rows(tasks)} == {1_000}


@pytest.mark.parametrize("work", ["expire", "cancel", "exhaust"])
def test_sweepers_at_once_end_a_task_once(on_postgres: Installation, work: str) -> None:
    here = on_postgres
    batch, dead = here.submit([new_task() for _ in range(60)]), here.worker()
    if work == "exhaust":
        here.claim(dead, here.ids(batch))
        here.kill(dead)
    here.set(tasks, deadline=here.now())
    together = threading.Barrier(4)

    def end(name: str) -> None:
        together.wait()
        statements = {
            "expire": lambda c: sweeps.expire_tasks(c, name),
            "cancel": lambda c: sweeps.cancel_tasks(c, name, batch, -1),
            "exhaust": lambda c: sweeps.settle_worker(c, dead, name, 1),
        }
        here.store.write(statements[work])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(end, "abcd"))
    assert here.progress(batch).done == 60


# Never by the former owner.


@pytest.mark.parametrize("when", ["queued_again", "claimed_again", "ended_again"])
def test_a_former_owners_outcome_never_counts_and_its_calls_true_cost_does(here: Installation, when: str) -> None:
    batch, first, second = here.submit([new_task()]), here.worker(), here.worker()
    old = here.claim_one(first, here.ids(batch)[0])
    here.kill(first)
    here.settle(first)
    late = step(old, SUCCEEDED, cost=33)
    if when == "queued_again":
        assert here.commit(first, late).counted == [False]
    new = here.claim_one(second, old[0].id)
    if when == "claimed_again":
        assert here.commit(first, late).counted == [False]
    assert here.commit(second, step(new, FAILED, cost=10)).counted == [True]
    ended = here.task(old[0].id)
    if when == "ended_again":
        assert here.commit(first, late).counted == [False]
    row = here.task(old[0].id)
    assert (row.state, row.finished_at, row.cost_nusd) == ("failed", ended.finished_at, 43)
    assert [(one.outcome, one.cost_nusd) for one in here.ledger(row.id)] == [("succeeded", 33), ("succeeded", 10)]
    progress = here.progress(batch)
    assert (progress.failed, progress.succeeded, progress.cost_nusd) == (1, 0, 43)


def test_a_worker_that_was_settled_meanwhile_receives_nothing(here: Installation) -> None:
    """A worker that stood still for longer than its lease: what it notes as received nobody would take back."""
    clock, broker = SimulatedClock(here.store), SimulatedBroker()
    worker, other = SimulatedWorker(here, broker), here.worker(lease_s=900.0)
    batch = here.submit([new_task()])
    chunk = received(here, worker, batch)
    clock.advance(LEASE_S + 1)
    sweeper(here, broker).sweep(other)
    before = worker.id
    worker.commit(slots=0)
    assert worker.id != before
    assert here.one(chunks, chunks.c.id == chunk.id).worker_id in {row.id for row in here.rows(workers)}


# Nothing stays behind.


def test_a_chunk_that_came_too_late_for_its_tasks_is_forgotten(here: Installation) -> None:
    """Its task was claimed by way of an older message, and its batch is finished before it could be published."""
    clock, broker, worker = SimulatedClock(here.store), SimulatedBroker(), here.worker(lease_s=900.0)
    batch = here.submit([new_task()])
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), Requeued("small")))
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), SUCCEEDED))
    here.finish(batch)
    assert here.progress(batch).state == "finished"
    sweep_until(clock, sweeper(here, broker), worker, lambda: here.count(chunks) == 0)
    assert len(broker) == 0


@pytest.mark.parametrize("fate", ["requeued", "orphaned"])
def test_a_given_up_batch_is_not_over_while_a_task_of_it_runs(here: Installation, fate: str) -> None:
    clock, broker, other = SimulatedClock(here.store), SimulatedBroker(), here.worker(lease_s=900.0)
    batch, worker = here.open(streaming=True), here.worker()
    here.add(batch, [new_task(), new_task()])
    taken = here.claim_one(worker, here.ids(batch)[0])
    here.abort(batch)
    one = sweeper(here, broker)
    one.sweep(other)
    assert here.one(batches).finished_at is None
    if fate == "requeued":
        here.commit(worker, step(taken, Requeued("small", after_s=5.0)))
    sweep_until(clock, one, other, partial(_all_over, here, (batch,)))
    assert [here.task(id_).state for id_ in here.ids(batch)] == ["cancelled"] * 2
    assert here.count(chunks) == 0
