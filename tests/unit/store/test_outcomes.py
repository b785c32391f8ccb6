"""An outcome counts only where the epoch is still its own; the ledger takes every answer."""

from __future__ import annotations

import orjson
import pytest

from tierq_shared.money import Usage
from tierq_shared.store import ledger, sweeps
from tierq_shared.store.outcomes import Ended, Requeued
from tierq_shared.store.tables import attempts, batches, chunks, decisions, payloads, tallies, tasks
from unit.store.installation import FAILED, SUCCEEDED, Installation, Taken, new_attempt, new_task, step


def one_running(here: Installation, count: int = 1) -> tuple[str, str, list[Taken]]:
    """A batch of running tasks: its id, the worker's, and what it claimed."""
    batch, worker = here.submit([new_task() for _ in range(count)]), here.worker()
    return batch, worker, here.claim(worker, here.ids(batch)).taken


def cost_in_ledger(here: Installation, task_id: str) -> int | None:
    costs = [row.cost_nusd for row in here.ledger(task_id)]
    return None if None in costs else sum(costs)


def test_a_success_is_written_with_its_output_its_cost_and_its_tally(here: Installation) -> None:
    batch, worker, (taken,) = one_running(here)
    done = here.commit(worker, step(taken, SUCCEEDED, cost=70, usage=Usage(100, 40, 5, 9, 2)))
    assert (done.counted, done.chunks) == ([True], [])
    row = here.task(taken[0].id)
    assert (row.state, row.cost_nusd, row.worker_id, row.error_code) == ("succeeded", 70, None, None)
    assert row.finished_at is not None
    assert here.one(payloads, payloads.c.task_id == row.id).output == '"bug"'
    (attempt,) = here.ledger(row.id)
    assert (attempt.outcome, attempt.http_status, attempt.request_id, attempt.latency_ms) == (
        "succeeded",
        200,
        "req-1",
        5,
    )
    counts = (attempt.input_tokens, attempt.cached_tokens, attempt.cache_write_tokens, attempt.output_tokens)
    assert (counts, attempt.reasoning_tokens, attempt.cost_nusd) == ((100, 40, 5, 9), 2, 70)
    progress = here.progress(batch)
    assert (progress.succeeded, progress.done, progress.cost_nusd, progress.unpriced) == (1, 1, 70, 0)


def test_a_failure_is_written_with_its_code_and_its_message(here: Installation) -> None:
    batch, worker, (taken,) = one_running(here)
    here.commit(worker, step(taken, FAILED, outcome="refused"))
    row = here.task(taken[0].id)
    assert (row.state, row.error_code) == ("failed", "refused")
    assert here.one(payloads, payloads.c.task_id == row.id).error == "declined"
    assert here.progress(batch).failed == 1


def test_a_repeated_commit_changes_nothing(here: Installation) -> None:
    batch, worker, taken = one_running(here, 3)
    steps = [
        step(taken[0], SUCCEEDED),
        step(taken[1], FAILED),
        step(taken[2], Requeued("medium", reason="escalated from small: invalid_output", policy_version="v")),
    ]
    assert here.commit(worker, *steps).counted == [True] * 3
    tables = (tasks, attempts, payloads, tallies, chunks, decisions, batches)
    before = [sorted(map(str, here.rows(table))) for table in tables]
    again = here.commit(worker, *steps)
    assert (again.counted, again.chunks) == ([False] * 3, [])
    assert [sorted(map(str, here.rows(table))) for table in tables] == before
    assert here.progress(batch).done == 2


def test_a_late_owner_is_refused_and_its_attempt_still_recorded(here: Installation) -> None:
    batch, first, (taken,) = one_running(here)
    here.kill(first)
    here.settle(first)
    second = here.worker()
    again = here.claim_one(second, taken[0].id)
    assert here.commit(first, step(taken, SUCCEEDED, cost=33)).counted == [False]
    assert here.task(taken[0].id).state == "running"
    assert here.progress(batch).done == 0
    late, mine = here.ledger(taken[0].id)
    assert (late.outcome, late.cost_nusd, mine.outcome) == ("succeeded", 33, "started")
    assert here.commit(second, step(again, FAILED)).counted == [True]
    assert here.task(taken[0].id).state == "failed"


@pytest.mark.parametrize("answer", ["while_queued", "while_running", "once_ended"])
def test_a_late_answer_leaves_the_tasks_cost_the_sum_of_its_attempts(here: Installation, answer: str) -> None:
    """A dead worker's attempt is charged at its reserve until its answer says better, whenever that comes."""
    batch, first, (taken,) = one_running(here)
    late = step(taken, SUCCEEDED, cost=33)
    here.kill(first)
    here.settle(first)
    second = here.worker()
    if answer == "while_queued":
        here.commit(first, late)
    again = here.claim_one(second, taken[0].id)
    if answer == "while_running":
        here.commit(first, late)
    here.commit(second, step(again, SUCCEEDED, cost=10))
    if answer == "once_ended":
        here.commit(first, late)
    assert cost_in_ledger(here, taken[0].id) == 43
    assert here.task(taken[0].id).cost_nusd == 43
    assert here.progress(batch).cost_nusd == 43


def test_an_answer_is_entered_once(here: Installation) -> None:
    _, worker, (taken,) = one_running(here)
    here.commit(worker, step(taken, SUCCEEDED, cost=33))
    here.commit(worker, step(taken, FAILED, cost=1_000, outcome="unknown"))
    (attempt,) = here.ledger(taken[0].id)
    assert (attempt.outcome, attempt.cost_nusd) == ("succeeded", 33)


def test_a_further_attempt_is_written_ahead_and_the_task_runs_on(here: Installation) -> None:
    _, worker, (taken,) = one_running(here)
    following = new_attempt(taken[0], ordinal=2)
    assert here.commit(worker, step(taken, following, outcome="overloaded", cost=0)).counted == [True]
    row = here.task(taken[0].id)
    assert (row.state, row.epoch, row.attempts) == ("running", 1, 2)
    assert [(one.ordinal, one.outcome) for one in here.ledger(row.id)] == [(1, "overloaded"), (2, "started")]


def test_a_batch_that_was_cancelled_makes_no_further_call(here: Installation) -> None:
    batch, worker, (taken,) = one_running(here)
    here.cancel(batch)
    following = new_attempt(taken[0], ordinal=2)
    assert here.commit(worker, step(taken, following, outcome="overloaded")).counted == [False]
    assert here.task(taken[0].id).state == "cancelled"
    assert here.count(attempts) == 1
    assert here.progress(batch).cancelled == 1


def test_what_ends_after_the_cancel_counts_as_what_it_is(here: Installation) -> None:
    batch, worker, (taken,) = one_running(here)
    here.cancel(batch)
    assert here.commit(worker, step(taken, SUCCEEDED)).counted == [True]
    assert here.progress(batch).succeeded == 1


def test_an_escalation_queues_on_the_next_tier_and_says_why(here: Installation) -> None:
    _, worker, (taken,) = one_running(here)
    up = Requeued("medium", reason="escalated from small: invalid_output", policy_version="config-1", signals='{"a":1}')
    done = here.commit(worker, step(taken, up, cost=25, outcome="invalid_output"))
    row = here.task(taken[0].id)
    assert (row.state, row.tier, row.cost_nusd, row.not_before, row.worker_id) == ("queued", "medium", 25, None, None)
    (chunk,) = done.chunks
    assert (chunk.tier, chunk.task_ids, chunk.id) == ("medium", [row.id], row.chunk_id)
    assert here.one(chunks, chunks.c.id == chunk.id).published_at is None
    decision = here.one(decisions, decisions.c.task_id == row.id, decisions.c.tier == "medium")
    assert (decision.reason, decision.policy_version, decision.signals) == (up.reason, "config-1", '{"a":1}')


def test_a_wait_is_a_chunk_that_is_due_later(here: Installation) -> None:
    _, worker, taken = one_running(here, 3)
    steps = [step(one, Requeued("small", after_s=after)) for one, after in zip(taken, (30.0, 30.0, 90.0), strict=True)]
    assert here.commit(worker, *steps).chunks == []
    rows = [here.task(task.id) for task, _ in taken]
    assert rows[0].chunk_id == rows[1].chunk_id != rows[2].chunk_id
    for row in rows:
        chunk = here.one(chunks, chunks.c.id == row.chunk_id)
        assert (chunk.not_before, chunk.published_at) == (row.not_before, None)
    assert 85 < (rows[2].not_before - here.now()).total_seconds() < 91
    assert here.count(decisions) == 3  # those of the submission


def test_an_unpriced_attempt_makes_the_tasks_cost_unknown_and_is_said(here: Installation) -> None:
    batch, worker, taken = one_running(here, 2)
    here.commit(worker, step(taken[0], SUCCEEDED, cost=None), step(taken[1], SUCCEEDED, cost=5))
    progress = here.progress(batch)
    assert (progress.cost_nusd, progress.unpriced, here.task(taken[0][0].id).cost_nusd) == (5, 1, None)


def test_tallies_are_exact_over_workers_tiers_and_states(here: Installation) -> None:
    batch = here.submit([new_task(tier="small" if number % 3 else "large") for number in range(12)])
    ends = [SUCCEEDED, FAILED, Ended("expired", error_code="deadline", error="late")]
    expected: dict[tuple[str, str], int] = {}
    for number, id_ in enumerate(here.ids(batch)):
        worker = here.worker(tier := here.task(id_).tier)
        end = ends[number // 3 % 3]
        here.commit(worker, step(here.claim_one(worker, id_, tier), end, cost=number))
        expected[tier, end.state] = expected.get((tier, end.state), 0) + 1
    tiers = here.progress(batch).tiers
    states = dict.fromkeys(end.state for end in ends)
    found = {(name, state): getattr(tier, state) for name, tier in tiers.items() for state in states}
    assert {place: count for place, count in found.items() if count} == expected
    assert sum(tier.cost_nusd for tier in tiers.values()) == sum(range(12))


def test_a_batch_ends_with_its_last_task_and_not_before(here: Installation) -> None:
    batch, worker, taken = one_running(here, 2)
    here.commit(worker, step(taken[0], SUCCEEDED))
    here.finish(batch)
    assert here.progress(batch).state == "running"
    here.commit(worker, step(taken[1], FAILED))
    here.finish(batch)
    progress = here.progress(batch)
    assert progress.state == "finished"
    assert progress.finished_at is not None
    assert progress.is_over


def test_an_open_batch_does_not_end_although_all_it_has_so_far_has_ended(here: Installation) -> None:
    batch = here.open(streaming=True)
    here.add(batch, [new_task()])
    worker = here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), SUCCEEDED))
    here.finish(batch)
    assert here.progress(batch).state == "open"
    here.seal(batch)
    here.finish(batch)
    assert here.progress(batch).state == "finished"


def test_the_ledger_says_which_attempts_it_holds(here: Installation) -> None:
    _, _, (taken,) = one_running(here)
    assert here.read(ledger.committed_attempts, [taken[1].id, "other"]) == {taken[1].id}


def test_the_chunk_of_many_requeued_tasks_is_cut_at_a_hundred(here: Installation) -> None:
    _, worker, taken = one_running(here, 120)
    done = here.commit(worker, *(step(one, Requeued("medium", reason="up")) for one in taken))
    assert [len(chunk.task_ids) for chunk in done.chunks] == [100, 20]


def test_a_cancelled_batch_whose_task_waits_again_is_settled(here: Installation) -> None:
    batch, worker, (taken,) = one_running(here)
    here.cancel(batch)
    here.commit(worker, step(taken, Requeued("small", after_s=60.0)))
    here.store.write(lambda c: sweeps.cancel_tasks(c, worker, batch, -1))
    here.finish(batch)
    assert here.progress(batch).state == "cancelled"
    assert here.progress(batch).finished_at is not None


def test_signals_of_a_decision_are_json(here: Installation) -> None:
    here.submit([new_task()])
    (row,) = here.rows(decisions)
    assert orjson.loads(row.signals)["type"] == "classify"
