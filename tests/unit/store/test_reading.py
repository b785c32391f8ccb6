"""What a caller reads: sums over all attempts, and nothing lost that commits late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from tierq.collecting import Collector
from tierq.outputs import Decoder
from tierq_shared.errors import BatchNotFound
from tierq_shared.ids import new_id
from tierq_shared.money import Usage
from tierq_shared.outcomes import TaskState
from tierq_shared.store import reading, sweeps
from tierq_shared.store.outcomes import Ended, commit_steps
from tierq_shared.store.tables import tasks
from unit.store.installation import FAILED, SUCCEEDED, Installation, new_attempt, new_task, step


def outcomes(here: Installation, batch: str, positions: list[int], decode: Any = None) -> list[Any]:
    return here.read(reading.outcomes, batch, positions, {}, decode or Decoder())  # type: ignore[no-any-return]


def test_an_outcome_sums_usage_and_cost_over_all_attempts(here: Installation) -> None:
    batch, worker = here.submit([new_task("k", tags='{"a":"own","b":"task"}')]), here.worker()
    taken = here.claim_one(worker, here.ids(batch)[0])
    second = new_attempt(taken[0], ordinal=2)
    here.commit(worker, step(taken, second, cost=10, outcome="invalid_output", usage=Usage(100, 50, 3, 7, 2)))
    end = step((taken[0], second), SUCCEEDED, cost=30, usage=Usage(120, 60, 4, 9, 1))
    here.commit(worker, replace(end, cost_nusd=40))
    (outcome,) = here.read(reading.outcomes, batch, [0], {"a": "batch", "c": "batch"}, Decoder())
    assert outcome.ok
    assert outcome.unwrap() == "bug"
    assert (outcome.attempts, outcome.cost_nusd, outcome.deployment, outcome.tier) == (2, 40, "mini", "small")
    assert outcome.usage == Usage(220, 110, 7, 16, 3)
    assert outcome.tags == {"a": "own", "b": "task", "c": "batch"}
    assert (outcome.key, outcome.position, outcome.type) == ("k", 0, "classify")


def test_only_ended_tasks_are_outcomes_and_in_order(here: Installation) -> None:
    batch, worker = here.submit([new_task() for _ in range(4)]), here.worker()
    ids = here.ids(batch)
    for position in (3, 0):
        here.commit(worker, step(here.claim_one(worker, ids[position]), FAILED, cost=None))
    here.claim(worker, [ids[1]])
    found = outcomes(here, batch, [3, 2, 1, 0])
    assert [outcome.position for outcome in found] == [0, 3]
    assert (found[0].error.code, found[0].error.message, found[0].error.retryable) == ("refused", "declined", False)
    assert (found[0].cost_nusd, found[0].cost_usd) == (None, None)
    assert here.read(reading.ended_positions, batch) in ([0, 3], [3, 0])
    rest = here.read(reading.outcomes_after, batch, 0, 10, {}, Decoder())
    assert [(one.position, one.state) for one in rest] == [(1, "running"), (2, "queued"), (3, "failed")]


def test_an_output_that_the_callers_model_refuses_is_no_success(here: Installation) -> None:
    def decode(_spec: str, _type: str, _output: Any) -> Any:
        raise ValueError("does not fit")

    batch, worker = here.submit([new_task()]), here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), SUCCEEDED))
    (outcome,) = outcomes(here, batch, [0], decode)
    assert (outcome.state, outcome.output, outcome.error.code) == (TaskState.FAILED, None, "invalid_output")


def test_progress_counts_by_tier_and_knows_a_cancel(here: Installation) -> None:
    batch, worker = here.submit([new_task(), new_task(tier="large")]), here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch)[0]), SUCCEEDED))
    progress = here.progress(batch)
    assert (progress.state, progress.total, progress.done, progress.is_over) == ("running", 2, 1, False)
    assert here.read(reading.states_by_tier, batch) == {("small", "succeeded"): 1, ("large", "queued"): 1}
    here.cancel(batch)
    assert here.progress(batch).state == "cancelled"
    here.store.write(lambda c: sweeps.cancel_tasks(c, worker, batch, -1))
    assert here.progress(batch).is_over
    assert [one.batch_id for one in here.read(reading.recent_batches)] == [batch]


def test_an_unknown_batch_is_said(here: Installation) -> None:
    with pytest.raises(BatchNotFound, match="nope"):
        here.progress("nope")
    with pytest.raises(BatchNotFound):
        here.read(reading.batch_tags, "nope")


def test_rows_that_commit_late_are_not_lost(on_postgres: Installation) -> None:
    """A transaction that began first and commits last: a cursor over positions or times would pass it by."""
    here = on_postgres
    batch, worker = here.submit([new_task() for _ in range(3)]), here.worker()
    first, second, third = here.claim(worker, here.ids(batch)).taken
    collector = Collector(here.store, batch, Decoder())
    with here.store.engine.begin() as slow:
        commit_steps(slow, worker, [step(first, SUCCEEDED)])
        here.commit(here.worker(), step(second, SUCCEEDED), step(third, SUCCEEDED))
        assert [one.position for one in collector.ready([], scan=True)] == [1, 2]
        assert collector.ready([0, 1], scan=False) == []
    assert not collector.is_done
    assert [one.position for one in collector.ready([], scan=True)] == [0]
    assert collector.is_done


def test_each_outcome_is_given_once_however_often_it_is_announced(here: Installation) -> None:
    batch, worker = here.submit([new_task() for _ in range(4)]), here.worker()
    taken = here.claim(worker, here.ids(batch)).taken
    here.commit(worker, step(taken[0], SUCCEEDED), step(taken[2], Ended("failed", error_code="refused", error="no")))
    collector = Collector(here.store, batch, Decoder())
    assert [one.position for one in collector.ready([2, 0, 2, 1], scan=False)] == [0, 2]
    assert collector.ready([0, 2], scan=False) == []
    here.commit(worker, step(taken[1], SUCCEEDED), step(taken[3], SUCCEEDED))
    assert [one.position for one in collector.ready([], scan=True)] == [1, 3]
    assert collector.ready([], scan=True) == []
    assert collector.is_done


def test_a_batch_that_is_given_up_ends_its_readers_wait(here: Installation) -> None:
    batch = here.open()
    collector = Collector(here.store, batch, Decoder())
    assert collector.ready([], scan=True) == []
    assert not collector.is_done
    here.abort(batch)
    collector.ready([], scan=True)
    assert collector.is_done


def test_prompts_and_answers_never_come_out_with_a_store_error(here: Installation) -> None:
    with pytest.raises(DBAPIError) as caught:
        here.store.write(lambda c: c.execute(insert(tasks), [{"id": new_id(), "key": "private text"}]))
    assert "private text" not in str(caught.value)
