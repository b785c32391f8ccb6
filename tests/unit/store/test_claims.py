"""Claims take what may run now, once, and write the attempt ahead."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from support.waiting import eventually
from tierq_shared.ids import new_id
from tierq_shared.store import backlog, claims, leases
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, tasks, workers
from unit.store.installation import SUCCEEDED, Installation, learn_nothing, new_attempt, new_task, step


def test_a_claim_takes_a_task_and_writes_its_attempt_ahead(here: Installation) -> None:
    batch = here.submit([new_task()])
    worker = here.worker()
    task, attempt = here.claim_one(worker, here.ids(batch)[0])
    row = here.task(task.id)
    assert (row.state, row.epoch, row.worker_id, row.chunk_id, row.attempts) == ("running", 1, worker, None, 1)
    (written,) = here.ledger(task.id)
    assert (written.id, written.outcome, written.epoch, written.reserved_nusd) == (attempt.id, "started", 1, 1_000)
    assert (task.epoch, task.attempts, task.cost_nusd, task.input_json) == (1, 0, 0, '{"text":"the text"}')
    assert task.claimed_at.tzinfo is not None


def test_only_what_may_run_now_is_claimed(here: Installation) -> None:
    """Not another tier's, not what waits, is past its deadline, ended, running or cancelled."""
    batch = here.submit([new_task(f"k{number}") for number in range(7)])
    cancelled = here.submit([new_task()])
    good, other_tier, waits, late, ended, runs, soon = here.ids(batch)
    here.set(tasks, tasks.c.id == other_tier, tier="large")
    here.set(tasks, tasks.c.id == waits, not_before=now(60))
    here.set(tasks, tasks.c.id == late, deadline=now(-1))
    here.set(tasks, tasks.c.id == ended, state="failed")
    here.set(tasks, tasks.c.id == runs, state="running")
    here.set(tasks, tasks.c.id == soon, not_before=now(-1), deadline=now(60))
    here.cancel(cancelled)
    found = here.claim(here.worker(), here.ids(batch) + here.ids(cancelled))
    assert {task.id for task, _ in found.taken} == {good, soon}
    assert found.left == []
    assert here.task(soon).not_before is None


def test_what_the_chooser_declines_stays_queued_as_it_was(here: Installation) -> None:
    (id_,) = here.ids(here.submit([new_task()]))
    before = here.task(id_)
    worker = here.worker()
    found = here.store.write(lambda c: claims.claim(c, worker, "small", [id_], learn_nothing, lambda _: None))
    assert (found.taken, found.left) == ([], [id_])
    assert here.task(id_) == before
    assert here.count(attempts) == 0


def test_each_claim_raises_the_epoch_and_knows_the_calls_before_it(here: Installation) -> None:
    (id_,) = here.ids(here.submit([new_task()]))
    first = here.worker()
    here.claim_one(first, id_)
    here.kill(first)
    here.settle(first)
    task, _ = here.claim_one(here.worker(), id_)
    assert (task.epoch, task.attempts, task.cost_nusd) == (2, 1, 1_000)


def test_two_claimers_never_share_a_task(here: Installation) -> None:
    ids = here.ids(here.submit([new_task(str(number)) for number in range(60)]))
    workers_ = [here.worker() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda worker: here.claim(worker, ids), workers_))
    taken = [task.id for claim in found for task, _ in claim.taken]
    assert sorted(taken) == sorted(ids)
    assert here.count(attempts) == 60


@pytest.mark.parametrize("end", ["expired", "stopped", "unknown"])
def test_a_worker_without_a_running_lease_may_not_claim(here: Installation, end: str) -> None:
    worker = here.worker()
    here.store.write(lambda c: claims.check_lease(c, worker))
    if end == "expired":
        here.kill(worker)
    elif end == "stopped":
        here.store.write(lambda c: leases.stop_worker(c, worker))
    else:
        worker = new_id()
    with pytest.raises(claims.LeaseLost):
        here.store.write(lambda c: claims.check_lease(c, worker))


def test_a_claim_that_outlasts_its_lease_leaves_no_task_running_without_a_worker(on_postgres: Installation) -> None:
    """A stalled worker commits its claim after the sweeper settled it: the tasks must still be found."""
    here = on_postgres
    (id_,) = here.ids(here.submit([new_task()]))
    worker = here.worker()
    with ThreadPoolExecutor(1) as pool:
        with here.store.engine.begin() as connection:
            claims.check_lease(connection, worker)
            claims.claim(connection, worker, "small", [id_], learn_nothing, new_attempt)
            here.kill(worker)
            settled = pool.submit(here.settle, worker)
            _blocked_or_done(here, settled)
        assert settled.result(10)[0]
    row = here.task(id_)
    assert row.state == "queued" or here.count(workers, workers.c.id == row.worker_id) == 1


def _blocked_or_done(here: Installation, settled: Future[object]) -> None:
    """Waits until the other transaction is through, or waits for a lock of ours."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    eventually(lambda: settled.done() or here.read(lambda c: c.execute(waiting).scalar_one()), every=0.01)


def test_receipt_hand_back_and_waiting_of_a_chunk(here: Installation) -> None:
    batch = here.submit([new_task()])
    (chunk,) = here.chunks(batch)
    worker = here.worker()
    here.store.write(lambda c: claims.receive(c, worker, [chunk.id]))
    (received,) = here.chunks(batch)
    assert received.received_at is not None
    assert received.worker_id == worker
    here.store.write(lambda c: claims.hand_back(c, [chunk.id]))
    (back,) = here.chunks(batch)
    assert (back.received_at, back.worker_id, back.not_before) == (None, None, None)
    assert back.published_at is None
    here.store.write(lambda c: claims.hand_back(c, [chunk.id], after_s=30.0))
    (waits,) = here.chunks(batch)
    assert waits.published_at is None
    assert timedelta(seconds=25) < waits.not_before - here.now() < timedelta(seconds=31)


@pytest.mark.parametrize("seconds", [0.00001, 0.001, 59.9, 86_400.0])
def test_the_databases_clock_takes_any_span(here: Installation, seconds: float) -> None:
    later, at = here.read(lambda c: c.execute(select(now(seconds), now())).one())
    assert later is not None
    assert abs((later - at).total_seconds() - seconds) < 0.1


def test_what_is_ready(here: Installation) -> None:
    batch = here.submit([new_task(str(number)) for number in range(3)])
    first, second, _ = here.ids(batch)
    worker = here.worker()
    here.commit(worker, step(here.claim_one(worker, first), SUCCEEDED))
    here.set(tasks, tasks.c.id == second, not_before=now(60))
    assert here.read(backlog.ready_tasks, "small") == 1


def test_the_backlog_does_not_count_cancelled_work(here: Installation) -> None:
    here.cancel(here.submit([new_task()]))
    assert here.read(backlog.ready_tasks, "small") == 0
