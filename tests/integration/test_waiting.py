"""Where a whole chain rests or is down, tasks wait in SQL and hold nothing; attempts and deadline decide the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from support.chains import PATIENCE_S, Stage, intent, stage_in
from support.waiting import eventually

MAX_ATTEMPTS = 4


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One slot: whoever held it while waiting would keep everybody else from running."""
    with stage_in(tmp_path_factory.mktemp("stage"), slots=1, max_attempts=MAX_ATTEMPTS) as stage:
        yield stage


@pytest.mark.parametrize(("first", "following"), [(30, 60), (60, 30)])
def test_where_the_whole_chain_rests_a_task_waits_for_the_earliest(stage: Stage, first: int, following: int) -> None:
    chain = stage.chain(
        "openai",
        first={"kind": "rate_limited", "retry_after_s": first},
        next={"kind": "rate_limited", "retry_after_s": following},
    )
    handle = chain.submit(urgency="interactive")
    assert 30 <= chain.waits_s(handle) < 60
    (task,) = stage.ledger.tasks(handle.id)
    assert (task.state, task.worker_id) == ("queued", None)
    assert [what for _, what, _ in chain.calls(handle.id)] == ["rate_limited", "rate_limited"]
    handle.cancel()


def test_a_waiting_task_holds_no_slot(stage: Stage) -> None:
    resting = stage.chain("openai", first={"kind": "rate_limited", "retry_after_s": 60})
    handle = resting.submit()
    resting.waits_s(handle)
    assert stage.chain("anthropic").run().ok
    assert handle.progress().done == 0
    handle.cancel()


def test_a_task_that_meets_a_resting_chain_is_not_called_before_it_is_due(stage: Stage) -> None:
    throttled = {"kind": "rate_limited", "retry_after_s": 2, "first": 1}
    chain = stage.chain("openai", first=throttled, next=throttled)
    earlier = chain.submit(urgency="interactive")
    chain.waits_s(earlier)
    later = chain.submit(urgency="interactive")
    other = stage.chain("gemini").run()
    assert other.ok
    assert later.wait(PATIENCE_S).ok
    rested_from = stage.ledger.attempts(earlier.id)[0].started_at
    (called,) = stage.ledger.attempts(later.id)
    assert (called.started_at - rested_from).total_seconds() >= 2
    assert called.started_at > other.finished_at
    assert earlier.wait(PATIENCE_S).ok


def test_a_chain_that_is_down_costs_no_slot_and_comes_back(stage: Stage) -> None:
    down = {"kind": "overloaded", "first": 1}
    chain = stage.chain("openai", first=down, next=down)
    outcome = chain.run()
    assert outcome.ok
    assert chain.calls_of(outcome) == [
        ("first", "overloaded", 503),
        ("next", "overloaded", 503),
        ("first", "succeeded", 200),
    ]
    assert {row.epoch for row in stage.ledger.attempts(outcome.batch_id)} == {1, 2}


def test_a_task_fails_when_its_calls_are_used_up_over_all_its_claims(stage: Stage) -> None:
    chain = stage.chain("openai", first={"kind": "overloaded"}, next={"kind": "server_error"})
    outcome = chain.run()
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code, outcome.attempts) == ("failed", "all_deployments_failed", MAX_ATTEMPTS)
    calls = stage.ledger.attempts(outcome.batch_id)
    assert [call.ordinal for call in calls] == list(range(1, MAX_ATTEMPTS + 1))
    assert len({call.epoch for call in calls}) > 1
    listed = ", ".join(f"{call.deployment}: overloaded ({call.http_status})" for call in calls)
    assert outcome.error.message == f"{MAX_ATTEMPTS} calls were made: {listed}"


def test_a_deadline_that_passes_while_a_task_waits_expires_it_and_keeps_what_is_finished(stage: Stage) -> None:
    chain = stage.chain("openai", first={"kind": "rate_limited", "retry_after_s": 60})
    good = stage.chain("anthropic", first=[])
    # Made anew by the second chain, so it is told once more.
    fault = {"kind": "rate_limited", "retry_after_s": 60}
    stage.site.simulator.configure({"models": {chain.model(): {"faults": [fault]}}})
    batch = stage.client.submit_many(
        [
            intent(text="The invoice is wrong", require={"region": good.region}),
            intent(text="The app crashes", require={"region": chain.region}, deadline=timedelta(seconds=2)),
            intent(text="It is lovely", require={"region": good.region}),
        ]
    )
    progress = batch.wait(PATIENCE_S)
    assert (progress.state, progress.succeeded, progress.expired) == ("finished", 2, 1)
    waited = list(batch.outcomes())[1]
    assert waited.error is not None
    assert (waited.state, waited.error.code) == ("expired", "deadline")
    assert waited.finished_at is not None
    assert (waited.finished_at - waited.created_at).total_seconds() >= 2


def test_a_deadline_holds_for_a_task_that_was_never_called(stage: Stage) -> None:
    chain = stage.chain("openai", first={"kind": "rate_limited", "retry_after_s": 60})
    earlier = chain.submit()
    chain.waits_s(earlier)
    outcome = chain.run(deadline=timedelta(seconds=1))
    assert (outcome.state, outcome.attempts) == ("expired", 0)
    assert not stage.ledger.attempts(outcome.batch_id)
    earlier.cancel()


def test_a_batch_that_waits_for_a_rest_is_cancelled_at_once(stage: Stage) -> None:
    chain = stage.chain("openai", first={"kind": "rate_limited", "retry_after_s": 60})
    tasks = [intent(text=f"Ticket {number}", require={"region": chain.region}) for number in range(5)]
    batch = stage.client.submit_many(tasks)
    eventually(lambda: stage.ledger.attempts(batch.id))
    batch.cancel()
    progress = batch.wait(PATIENCE_S)
    assert (progress.state, progress.cancelled) == ("cancelled", 5)
    made = stage.site.simulator.stats()["requests"]
    assert stage.chain("anthropic").run().ok
    assert stage.site.simulator.stats()["requests"] == made + 1
