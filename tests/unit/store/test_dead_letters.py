"""Failed tasks are told by cause, and sent again: once each, with their attempts kept and the tallies exact."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from support.waiting import eventually
from tierq_shared.errors import BatchNotFound, RetryRefused
from tierq_shared.store import dead_letters, sweeps
from tierq_shared.store.dead_letters import Failures, Retried
from tierq_shared.store.ledger import AttemptResult
from tierq_shared.store.outcomes import Ended, Step
from tierq_shared.store.tables import batches, payloads, tallies, tasks
from tierq_shared.store.tallies import finish_batches
from unit.store.installation import SUCCEEDED, Installation, Taken, new_attempt, new_task, step

LONG_AGO = timedelta(hours=1)


def failed(code: str = "all_deployments_failed", message: str = "nobody answers") -> Ended:
    return Ended("failed", error_code=code, error=message)


def failing(here: Installation, *ends: Ended, cost: int | None = 10, **fields: Any) -> str:
    """A finished batch whose tasks have ended like this, each after one call."""
    batch, worker = here.submit([new_task(f"T{number}", **fields) for number in range(len(ends))]), here.worker()
    for id_, end in zip(here.ids(batch), ends, strict=True):
        here.commit(worker, step(here.claim_one(worker, id_), end, cost=cost, outcome="overloaded"))
    here.finish(batch)
    return batch


def read(here: Installation, batch: str, limit: int = 20) -> Failures:
    found: Failures = here.read(dead_letters.failures, batch, limit)
    return found


def retry(here: Installation, batch: str, *codes: str) -> Retried:
    return dead_letters.retry(here.store, batch, codes or None)


# Why tasks failed.


def test_failures_are_grouped_by_code_and_the_shape_of_their_message(here: Installation) -> None:
    batch = failing(
        here,
        failed("attempts_exhausted", "10 rows of mini"),
        failed("refused", "declined"),
        failed("attempts_exhausted", "9 rows of mini"),
        failed("attempts_exhausted", "9 rows of haiku"),
        failed("invalid_output", 'the answer is "apples", and no label'),
        failed("invalid_output", 'the answer is "pears", and no label'),
        failed("invalid_output", "no label (request req_011CTabcdefghijklm)"),
        failed("invalid_output", "no label (request req_011CUzyxwvutsrqpo)"),
        failed("invalid_output", "no label (request 6f1c2d3e-0000-4000-8000-aaaaaaaaaaaa)"),
        SUCCEEDED,
    )
    found = read(here, batch)
    assert [(group.code, group.tasks, group.example.key) for group in found.groups] == [
        ("invalid_output", 3, "T6"),
        ("attempts_exhausted", 2, "T0"),
        ("invalid_output", 2, "T4"),
        ("refused", 1, "T1"),
        ("attempts_exhausted", 1, "T3"),
    ]
    assert [group.retryable for group in found.groups] == [False, True, False, False, True]
    assert (found.batch_id, found.total, found.further_groups, found.further_tasks) == (batch, 9, 0, 0)


def test_lists_of_calls_are_one_cause_where_the_same_calls_were_made(here: Installation) -> None:
    batch, worker = here.submit([new_task("T-1"), new_task("T-2"), new_task("T-3")]), here.worker()
    for id_, ends in zip(here.ids(batch), ("ab", "bab", "b"), strict=True):
        task, attempt = here.claim_one(worker, id_)
        for ordinal, outcome in enumerate(ends[:-1], start=2):
            following = new_attempt(task, ordinal=ordinal)
            here.commit(worker, answered((task, attempt), following, outcome, 503, "busy"))
            attempt = following
        here.commit(worker, answered((task, attempt), failed(), ends[-1], 503, "busy"))
    assert [group.tasks for group in read(here, batch).groups] == [2, 1]


def test_what_is_beyond_the_limit_is_counted(here: Installation) -> None:
    batch = failing(here, failed(), failed(), failed("refused"), failed("too_long"), failed("internal_error"))
    found = read(here, batch, limit=2)
    assert [group.tasks for group in found.groups] == [2, 1]
    assert (found.total, found.further_groups, found.further_tasks) == (5, 2, 2)


def test_messages_without_end_are_one_cause_of_their_code(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays flat however many messages a million failures have."""
    monkeypatch.setattr(dead_letters, "_MAX_SHAPES", 2)
    batch = failing(here, *[failed("internal_error", f"bug {word}") for word in ("one", "two", "three", "four")])
    assert [group.tasks for group in read(here, batch).groups] == [2, 1, 1]


def test_an_example_has_every_attempt_in_order(here: Installation) -> None:
    batch, worker = here.submit([new_task("T-1")]), here.worker()
    taken = here.claim_one(worker, here.ids(batch)[0])
    second = new_attempt(taken[0], ordinal=2)
    here.commit(worker, answered(taken, second, "overloaded", 503, "busy"))
    here.commit(worker, answered((taken[0], second), failed(message="all were tried"), "auth", 401, "wrong key"))
    (group,) = read(here, batch).groups
    example = group.example
    assert (example.task_id, example.position, example.key) == (taken[0].id, 0, "T-1")
    assert (example.tier, example.message) == ("small", "2 calls were made: mini: overloaded (503), mini: auth (401)")
    calls = [(call.ordinal, call.deployment, call.outcome, call.http_status, call.error) for call in example.attempts]
    assert calls == [(1, "mini", "overloaded", 503, "busy"), (2, "mini", "auth", 401, "wrong key")]


def answered(taken: Taken, next_: Any, outcome: str, status: int, error: str) -> Step:
    task, attempt = taken
    result = AttemptResult(attempt.id, outcome, 5, status, error=error, cost_nusd=0)
    return Step(task.id, task.batch_id, task.position, task.tier, task.epoch, task.priority, 0, result, next_)


def test_a_batch_without_failures_has_none(here: Installation) -> None:
    batch = failing(here, SUCCEEDED)
    assert (read(here, batch).total, list(read(here, batch).groups)) == (0, [])
    with pytest.raises(BatchNotFound):
        read(here, "0" * 32)


def test_failed_tasks_are_found_by_their_index(here: Installation) -> None:
    """A batch of a million tasks is not read for its thousand failures."""
    batch = failing(here, failed(), SUCCEEDED)
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    event.listen(here.store.engine, "before_cursor_execute", note)
    read(here, batch)
    retry(here, batch)
    event.remove(here.store.engine, "before_cursor_execute", note)
    searching = [(one, given) for one, given in said if one.startswith("SELECT") and "state = 'failed'" in one]
    assert len(searching) >= 4
    for statement, parameters in searching:
        plan = explained(here, statement, parameters)
        assert "tierq_task_failed" in plan, plan


def explained(here: Installation, statement: str, parameters: Any) -> str:
    word = "EXPLAIN QUERY PLAN" if here.store.is_sqlite else "EXPLAIN"
    with here.store.engine.begin() as connection:
        if not here.store.is_sqlite:
            # A table of two rows is read whole by any planner.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        rows = connection.exec_driver_sql(f"{word} {statement}", parameters)
        return "\n".join(" ".join(map(str, row)) for row in rows)


# Sending them again.


def test_failed_tasks_are_queued_again_and_the_batch_runs(here: Installation) -> None:
    batch = failing(here, failed(), SUCCEEDED, cost=10)
    first, second = here.ids(batch)
    assert here.progress(batch).state == "finished"

    assert retry(here, batch) == Retried(batch, {"all_deployments_failed": 1}, {}, {})

    row = here.task(first)
    assert (row.state, row.epoch, row.error_code, row.finished_at) == ("queued", 2, None, None)
    assert (row.attempts, row.uncounted_attempts) == (1, 1)
    assert here.one(payloads, payloads.c.task_id == first).error is None
    assert here.task(second).state == "succeeded"
    progress = here.progress(batch)
    assert (progress.state, progress.finished_at, progress.is_over) == ("running", None, False)
    assert (progress.succeeded, progress.failed, progress.cost_nusd) == (1, 0, 10)


def test_the_sweeper_rings_for_them_at_once(here: Installation) -> None:
    batch = failing(here, *[failed()] * 101, SUCCEEDED)
    retry(here, batch)
    rung = here.read(sweeps.chunks_to_ring)
    assert sorted(len(chunk.task_ids) for chunk in rung if chunk.task_ids) == [1, 100]
    assert {id_ for chunk in rung for id_ in chunk.task_ids} == set(here.ids(batch)[:101])
    assert {row.chunk_id for row in map(here.task, here.ids(batch)[:101])} <= {chunk.id for chunk in rung}


def test_a_task_that_ends_anew_is_counted_once_with_all_its_attempts(here: Installation) -> None:
    batch, worker = failing(here, failed(), failed(), cost=10), here.worker()
    retry(here, batch)
    first, second = here.ids(batch)
    here.commit(worker, step(here.claim_one(worker, first), SUCCEEDED, cost=7))
    here.finish(batch)
    assert here.progress(batch).finished_at is None
    here.commit(worker, step(here.claim_one(worker, second), failed(), cost=5))
    here.finish(batch)
    progress = here.progress(batch)
    assert (progress.state, progress.succeeded, progress.failed, progress.cost_nusd) == ("finished", 1, 1, 32)
    assert [(one.ordinal, one.cost_nusd) for one in here.ledger(first)] == [(1, 10), (2, 7)]
    assert (here.task(first).cost_nusd, here.task(second).cost_nusd) == (17, 15)


def test_an_unpriced_task_is_taken_out_as_unpriced(here: Installation) -> None:
    batch = failing(here, failed(), cost=None)
    assert here.progress(batch).unpriced == 1
    retry(here, batch)
    assert (here.progress(batch).unpriced, here.progress(batch).cost_nusd) == (0, 0)


def test_an_outcome_of_the_old_owner_no_longer_counts(here: Installation) -> None:
    """The sweeper fails a task for its dead worker; that one is alive after all, and answers after the retry."""
    batch, worker = here.submit([new_task()]), here.worker()
    taken = here.claim_one(worker, here.ids(batch)[0])
    here.kill(worker)
    here.settle(worker, max_attempts=1)
    here.finish(batch)
    retry(here, batch)
    assert here.commit(worker, step(taken, SUCCEEDED, cost=3)).counted == [False]
    row = here.task(taken[0].id)
    assert (row.state, row.cost_nusd) == ("queued", 3)
    assert here.progress(batch).cost_nusd == 0
    new_worker = here.worker()
    here.commit(new_worker, step(here.claim_one(new_worker, row.id), SUCCEEDED, cost=4))
    assert here.progress(batch).cost_nusd == 7


def test_the_budget_of_calls_starts_anew_and_the_ordinals_go_on(here: Installation) -> None:
    batch = failing(here, failed())
    (id_,) = here.ids(batch)
    retry(here, batch)
    for calls in (1, 2):
        worker = here.worker()
        task, _ = here.claim_one(worker, id_)
        assert (task.attempts - task.uncounted_attempts, task.uncounted_attempts) == (calls - 1, 1)
        here.kill(worker)
        here.settle(worker, max_attempts=2)
        assert here.task(id_).state == ("queued" if calls == 1 else "failed")
    assert [one.ordinal for one in here.ledger(id_)] == [1, 2, 3]


def test_a_retry_may_be_retried(here: Installation) -> None:
    batch, worker = failing(here, failed(), cost=10), here.worker()
    (id_,) = here.ids(batch)
    for _ in range(2):
        assert retry(here, batch).total == 1
        here.commit(worker, step(here.claim_one(worker, id_), failed(), cost=10))
        here.finish(batch)
    progress = here.progress(batch)
    assert (progress.failed, progress.cost_nusd, progress.state) == (1, 30, "finished")
    assert here.task(id_).uncounted_attempts == 2


def test_what_would_only_fail_again_is_left_out_unless_it_is_named(here: Installation) -> None:
    batch = failing(here, failed(), failed("refused"), failed("refused"), failed("attempts_exhausted"))
    done = retry(here, batch)
    assert done.queued == {"all_deployments_failed": 1, "attempts_exhausted": 1}
    assert done.left_out == {"refused": 2}
    assert retry(here, batch, "refused") == Retried(batch, {"refused": 2}, {}, {})
    assert retry(here, batch) == Retried(batch, {}, {}, {})


def test_a_task_past_its_deadline_is_left_out_and_counted(here: Installation) -> None:
    batch = failing(here, failed(), failed(), deadline=here.now() + LONG_AGO)
    late, _ = here.ids(batch)
    here.set(tasks, tasks.c.id == late, deadline=here.now() - LONG_AGO)
    assert retry(here, batch) == Retried(batch, {"all_deployments_failed": 1}, {}, {"all_deployments_failed": 1})
    assert here.task(late).state == "failed"
    assert retry(here, batch, "refused").past_deadline == {}


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (("refusd",), "did you mean 'refused'"),
        (("deadline",), "only failed tasks are sent again"),
        (("all_deployments_failed", "sunshine"), "no task fails with the code 'sunshine'"),
    ],
)
def test_an_unknown_code_changes_nothing(here: Installation, codes: tuple[str, ...], said: str) -> None:
    batch = failing(here, failed())
    with pytest.raises(RetryRefused, match=said):
        retry(here, batch, *codes)
    assert here.progress(batch).state == "finished"


def test_a_code_that_a_newer_release_gave_can_be_named(here: Installation) -> None:
    batch = failing(here, failed("gone_fishing"))
    assert retry(here, batch).left_out == {"gone_fishing": 1}
    assert retry(here, batch, "gone_fishing").total == 1


def test_only_a_whole_batch_that_runs_or_is_finished_can_be_retried(here: Installation) -> None:
    cancelled = failing(here, failed())
    here.cancel(cancelled)
    with pytest.raises(RetryRefused, match="was cancelled"):
        retry(here, cancelled)
    aborted = here.open()
    here.abort(aborted)
    with pytest.raises(RetryRefused, match="submit it again"):
        retry(here, aborted)
    unsealed = here.open(streaming=True)
    with pytest.raises(RetryRefused, match="not wholly submitted"):
        retry(here, unsealed)
    with pytest.raises(BatchNotFound):
        retry(here, "0" * 32)
    assert here.count(tasks, tasks.c.state == "queued") == 0


def test_a_batch_that_still_runs_goes_on_beside_it(here: Installation) -> None:
    batch, worker = here.submit([new_task() for _ in range(3)]), here.worker()
    first, second, third = here.ids(batch)
    here.commit(worker, step(here.claim_one(worker, first), failed()))
    under_way = here.claim_one(worker, second)
    retry(here, batch)
    here.commit(worker, step(under_way, SUCCEEDED))
    assert {here.task(id_).state for id_ in (first, third)} == {"queued"}
    assert here.progress(batch).done == 1
    assert here.task(third).epoch == 0


def test_what_fails_again_meanwhile_is_left_alone(here: Installation) -> None:
    """Else a retry against a provider that is down would go round for ever."""
    batch, worker = failing(here, failed("all_deployments_failed"), failed("attempts_exhausted")), here.worker()
    first, second = here.ids(batch)
    order = here.store.write(lambda c: dead_letters._order(c, batch, None))
    assert send(here, batch, "all_deployments_failed", order.until) == [first]
    here.commit(worker, step(here.claim_one(worker, first), failed("attempts_exhausted")))
    assert send(here, batch, "attempts_exhausted", order.until) == [second]


def send(here: Installation, batch: str, code: str, until: datetime) -> list[str]:
    looked = here.store.write(lambda c: dead_letters._send_slice(c, batch, code, until, after=""))
    return list(looked.sent) if looked else []


def test_many_are_sent_in_slices(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_NEXT", dead_letters._NEXT.limit(3))
    batch = failing(here, *[failed()] * 8)
    assert retry(here, batch).total == 8
    assert {here.task(id_).epoch for id_ in here.ids(batch)} == {2}


def test_two_retries_at_once_send_no_task_twice(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_NEXT", dead_letters._NEXT.limit(5))
    batch = failing(here, *[failed()] * 60, SUCCEEDED)
    done: list[Retried] = []
    both = threading.Barrier(2)

    def send() -> None:
        both.wait()
        done.append(retry(here, batch))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.total for one in done) == 60
    assert {here.task(id_).epoch for id_ in here.ids(batch)[:60]} == {2}
    assert here.tally_counts(batch) == {"succeeded": 1, "failed": 0, "cancelled": 0, "expired": 0}
    assert here.count(tallies, tallies.c.failed < 0) == 1


def test_a_batch_does_not_finish_over_a_retry_that_is_under_way(on_postgres: Installation) -> None:
    """Its end was computed from tallies that the retry is about to correct. On SQLite there is one writer anyway."""
    here = on_postgres
    batch, worker = here.submit([new_task(), new_task()]), here.worker()
    first, second = here.ids(batch)
    here.commit(worker, step(here.claim_one(worker, first), failed()))
    here.commit(worker, step(here.claim_one(worker, second), SUCCEEDED))
    finishing = threading.Thread(target=here.finish, args=(batch,))

    def work(connection: Any) -> None:
        dead_letters._send_slice(connection, batch, "all_deployments_failed", here.now() + LONG_AGO, "")
        finishing.start()
        waits_for_us(here)

    here.store.write(work)
    finishing.join()
    assert here.one(batches, batches.c.id == batch).state == "running"


def waits_for_us(here: Installation) -> None:
    """Until another connection of this database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    eventually(lambda: here.read(lambda connection: connection.execute(waiting).scalar()))


def test_finishing_looks_for_a_lock_only_where_a_batch_seems_over(here: Installation) -> None:
    """Workers that commit outcomes of one batch must not queue up for its row."""
    batch, worker = here.submit([new_task(), new_task()]), here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), SUCCEEDED))
    said: list[str] = []
    event.listen(here.store.engine, "before_cursor_execute", lambda _c, _k, statement, *_: said.append(statement))
    here.store.write(lambda c: finish_batches(c, [batch]))
    assert not [one for one in said if one.startswith("UPDATE") or "FOR UPDATE" in one]
