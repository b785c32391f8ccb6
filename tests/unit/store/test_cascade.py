"""What the store keeps of a cascade: confidence, samples that are no tries, and what a dead worker leaves of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tierq_shared.store import reading
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued
from tierq_shared.store.tables import attempts, decisions, tasks
from unit.store.installation import FAILED, SUCCEEDED, Installation, Taken, new_attempt, new_task, step

SURE = Ended("succeeded", output='"bug"', confidence=0.91)


def second(taken: Taken, ordinal: int, lane: str = "sample", deployment: str = "mini") -> NewAttempt:
    return replace(new_attempt(taken[0], ordinal=ordinal), lane=lane, deployment=deployment)


def with_sample(here: Installation, worker: str, taken: Taken, count: int = 1, lane: str = "sample") -> Taken:
    """A claim that has gone on to further calls; the last of them is under way."""
    for _ in range(count):
        further = second(taken, taken[1].ordinal + 1, lane)
        assert here.commit(worker, step(taken, further)).counted == [True]
        taken = (replace(taken[0], cost_nusd=(taken[0].cost_nusd or 0) + 10), further)
    return taken


def one(here: Installation) -> tuple[str, str, Taken]:
    batch, worker = here.submit([new_task()]), here.worker()
    return batch, worker, here.claim(worker, here.ids(batch)).taken[0]


def outcome_of(here: Installation, batch: str) -> Any:
    (found,) = here.read(reading.outcomes, batch, [0], {}, lambda _spec, _type, value: value)
    return found


def test_the_confidence_is_stored_and_told(here: Installation) -> None:
    batch, worker, taken = one(here)
    here.commit(worker, step(taken, SURE))
    assert here.task(taken[0].id).confidence == pytest.approx(0.91)
    assert outcome_of(here, batch).confidence == pytest.approx(0.91)


def test_without_a_measure_there_is_none(here: Installation) -> None:
    batch, worker, taken = one(here)
    here.commit(worker, step(taken, SUCCEEDED))
    assert here.task(taken[0].id).confidence is None
    assert outcome_of(here, batch).confidence is None


def test_the_outcome_names_who_answered_not_who_was_asked_for_an_opinion(here: Installation) -> None:
    batch, worker, taken = one(here)
    verdict = second(taken, 2, "verify", "judge")
    here.commit(worker, step(taken, verdict))
    here.commit(worker, step((replace(taken[0], cost_nusd=10), verdict), SURE, cost=30))
    found = outcome_of(here, batch)
    assert (found.deployment, found.attempts, found.cost_nusd) == ("mini", 2, 40)


@pytest.mark.parametrize("lane", ["sample", "verify"])
def test_samples_and_verdicts_are_calls_but_no_tries(here: Installation, lane: str) -> None:
    _, worker, taken = one(here)
    with_sample(here, worker, taken, 4, lane)
    row = here.task(taken[0].id)
    assert (row.attempts, row.uncounted_attempts) == (5, 4)
    assert [call.lane for call in here.ledger(row.id)] == ["call", *[lane] * 4]


def test_a_reask_is_a_try(here: Installation) -> None:
    _, worker, taken = one(here)
    with_sample(here, worker, taken, 1, "reask")
    assert here.task(taken[0].id).uncounted_attempts == 0


def test_a_worker_that_dies_during_a_sample_leaves_it_unknown_and_the_task_to_others(here: Installation) -> None:
    """However often: with three samples a claim, ten tries would be used up by four deaths."""
    batch, worker, taken = one(here)
    deaths = 6
    for _ in range(deaths):
        with_sample(here, worker, taken, 2)
        here.kill(worker)
        done, cut = here.settle(worker, max_attempts=10)
        assert done
        assert [chunk.task_ids for chunk in cut] == [[taken[0].id]]
        worker = here.worker()
        taken = here.claim_one(worker, taken[0].id)
        assert taken[0].attempts - taken[0].uncounted_attempts <= deaths
    last = with_sample(here, worker, taken, 2)
    here.commit(worker, step(last, SURE))
    here.finish(batch)
    ledger = here.ledger(taken[0].id)
    assert [call.outcome for call in ledger] == [*["succeeded", "succeeded", "unknown"] * deaths, *["succeeded"] * 3]
    assert here.task(taken[0].id).cost_nusd == sum(call.cost_nusd for call in ledger), "nothing is charged twice"
    progress = here.progress(batch)
    assert (progress.succeeded, progress.cost_nusd) == (1, here.task(taken[0].id).cost_nusd)


def test_the_tries_still_end(here: Installation) -> None:
    _, worker, taken = one(here)
    for _ in range(3):
        with_sample(here, worker, taken, 2)
        here.kill(worker)
        here.settle(worker, max_attempts=3)
        if here.task(taken[0].id).state == "failed":
            break
        worker = here.worker()
        taken = here.claim_one(worker, taken[0].id)
    assert here.task(taken[0].id).error_code == "attempts_exhausted"


def test_a_late_sample_of_a_dead_worker_counts_for_nothing_but_the_ledger(here: Installation) -> None:
    _, first, taken = one(here)
    late = with_sample(here, first, taken)
    here.kill(first)
    here.settle(first)
    second_worker = here.worker()
    again = here.claim_one(second_worker, taken[0].id)
    assert here.commit(first, step(late, SURE)).counted == [False]
    assert here.task(taken[0].id).confidence is None
    here.commit(second_worker, step(again, FAILED))
    row = here.task(taken[0].id)
    assert (row.state, row.confidence) == ("failed", None)
    assert row.cost_nusd == sum(call.cost_nusd for call in here.ledger(row.id))


def test_an_unsure_answer_goes_up_with_its_reason_and_is_no_try(here: Installation) -> None:
    batch, worker, taken = one(here)
    told = '{"signal":"logprobs","confidence":0.61,"threshold":0.83}'
    up = Requeued("large", reason="escalated from small: not confident: 0.61 < 0.83", signals=told, uncounted=1)
    here.commit(worker, step(taken, up))
    row = here.task(taken[0].id)
    assert (row.state, row.tier, row.cost_nusd, row.confidence) == ("queued", "large", 10, None)
    assert (row.attempts, row.uncounted_attempts) == (1, 1)
    why = here.one(decisions, decisions.c.task_id == row.id, decisions.c.tier == "large")
    assert (why.reason, why.signals) == (up.reason, told)
    other = here.worker("large")
    (above,) = here.claim(other, [row.id], "large").taken
    here.commit(other, step(above, SUCCEEDED, cost=500))
    assert here.task(row.id).cost_nusd == 510
    assert here.one(attempts, attempts.c.task_id == row.id, attempts.c.tier == "small").outcome == "succeeded"
    here.finish(batch)
    assert here.one(tasks, tasks.c.id == row.id).state == "succeeded"


def test_a_batch_that_was_cancelled_takes_no_further_sample(here: Installation) -> None:
    batch, worker, taken = one(here)
    here.cancel(batch)
    assert here.commit(worker, step(taken, second(taken, 2))).counted == [False]
    assert [call.lane for call in here.ledger(taken[0].id)] == ["call"]
    assert here.task(taken[0].id).state == "cancelled"
