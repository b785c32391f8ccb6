"""One claim of one task: what it charges, and what it leaves when it is broken off."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_workers.answers import Kind
from tierq_workers.execution import TaskRun
from tierq_workers.providers.base import ProviderError, Response
from tierq_workers.runtime import PermittedAttempt, TierRuntime

SETTINGS = Settings.model_validate(
    {
        "tiers": {"small": {"chain": ["mini", "other"]}},
        "deployments": {
            name: {"provider": "openai", "model": "m", "price": {"input": 1, "output": 10}}
            for name in ("mini", "other")
        },
    }
)
SPEC = SpecBody(type="classify", name="triage", labels={"bug": None, "billing": None})


class Provider:
    """Answers calls with what it was given, in turn; `None` hangs."""

    def __init__(self, *answers: Response | ProviderError | None) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def send(self, _request: Any, **_options: Any) -> Response | ProviderError:
        self.calls += 1
        answer = self.answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return answer


def answered(label: str) -> Response:
    body = {
        "id": "chatcmpl-1",
        "choices": [{"message": {"content": orjson.dumps({"label": label}).decode()}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    return Response(200, {"x-request-id": "req-1"}, orjson.dumps(body))


OVERLOADED = ProviderError(ErrorClass.OVERLOADED, "busy", 503)


def claimed(**fields: Any) -> ClaimedTask:
    at = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": "t",
        "batch_id": "b",
        "chunk_id": "c",
        "position": 0,
        "epoch": 1,
        "type": "classify",
        "tier": "small",
        "priority": 5,
        "urgency": "standard",
        "spec_id": SPEC.id,
        "input_json": '{"text":"it crashes"}',
        "created_at": at,
        "claimed_at": at,
        "deadline": None,
        "constraints": {},
        "attempts": 0,
        "cost_nusd": 0,
    }
    return ClaimedTask(**{**values, **fields})


class Claimed:
    """A run with a provider, and what it recorded on the way."""

    def __init__(self, provider: Provider, *, holds: bool = False, spec: SpecBody = SPEC, **fields: Any) -> None:
        self.recorded: list[Step] = []
        self.holds = asyncio.Event() if holds else None
        self.runtime = TierRuntime(SETTINGS, "small", provider)  # type: ignore[arg-type]
        self.runtime.kinds[spec.id] = Kind(spec)
        task = claimed(**fields)
        attempt = self.runtime.first_attempt(task)
        assert isinstance(attempt, PermittedAttempt)
        self.attempt = attempt
        self.run = TaskRun(self.runtime, task, attempt, Kind(spec), self.record)

    async def record(self, step: Step) -> bool:
        self.recorded.append(step)
        if self.holds is not None:
            await self.holds.wait()
        return True


async def test_a_success_costs_what_its_tokens_cost() -> None:
    claim = Claimed(Provider(answered("bug")))
    step = await claim.run.run()
    assert step.result is not None
    assert (step.result.cost_nusd, step.cost_nusd) == (200_000, 200_000)
    assert step.result.id == claim.attempt.id


async def test_each_further_call_is_written_ahead_and_costs_add_up() -> None:
    claim = Claimed(Provider(OVERLOADED, answered("spam"), answered("bug")))
    step = await claim.run.run()
    following = [one.next for one in claim.recorded]
    assert [(one.ordinal, one.deployment, one.lane) for one in following if isinstance(one, NewAttempt)] == [
        (2, "other", "call"),
        (3, "other", "reask"),
    ]
    assert [one.result.cost_nusd for one in claim.recorded if one.result] == [0, 200_000]
    assert step.cost_nusd == 400_000


async def test_a_task_that_was_sent_again_has_its_whole_budget_and_goes_on_counting() -> None:
    calls = SETTINGS.worker.max_attempts
    fresh = Claimed(Provider(OVERLOADED, answered("bug")), attempts=calls, uncounted_attempts=calls)
    step = await fresh.run.run()
    assert isinstance(step.next, Ended)
    assert step.next.state == "succeeded"
    assert [fresh.attempt.ordinal, *[one.next.ordinal for one in fresh.recorded]] == [calls + 1, calls + 2]
    spent = Claimed(Provider(OVERLOADED), attempts=2 * calls - 1, uncounted_attempts=calls)
    end = (await spent.run.run()).next
    assert isinstance(end, Ended)
    assert (end.error_code, end.error and end.error.startswith(f"{calls} calls")) == ("all_deployments_failed", True)


async def test_a_call_without_an_answer_stays_charged_at_its_worst_case() -> None:
    claim = Claimed(Provider(ProviderError(ErrorClass.OVERLOADED, "reset"), answered("bug")))
    step = await claim.run.run()
    (first,) = claim.recorded
    assert first.result is not None
    assert (first.result.outcome, first.result.cost_nusd) == ("unknown", claim.attempt.reserved_nusd)
    assert step.cost_nusd == 200_000 + (claim.attempt.reserved_nusd or 0)


async def test_a_call_that_never_left_costs_nothing() -> None:
    refused = ProviderError(ErrorClass.OVERLOADED, "connection refused", sent=False)
    claim = Claimed(Provider(refused, answered("bug")))
    assert (await claim.run.run()).cost_nusd == 200_000


async def test_a_call_that_is_broken_off_stays_charged_and_the_task_waits_again() -> None:
    provider = Provider(None)
    claim = Claimed(provider)
    await broken_off(claim, lambda: provider.calls)
    step = claim.run.given_up("stopped")
    assert step.result is not None
    assert (step.result.id, step.result.outcome) == (claim.attempt.id, "unknown")
    assert step.result.cost_nusd == step.cost_nusd == claim.attempt.reserved_nusd
    assert isinstance(step.next, Requeued)


async def test_a_call_that_was_never_made_is_not_charged() -> None:
    """The worker stops between writing a further attempt ahead and calling: nothing of that attempt was sent."""
    provider = Provider(answered("spam"), answered("bug"))
    claim = Claimed(provider, holds=True)
    await broken_off(claim, lambda: claim.recorded)
    step = claim.run.given_up("stopped")
    following = claim.recorded[0].next
    assert isinstance(following, NewAttempt)
    assert step.result is not None
    assert provider.calls == 1
    assert step.result.id == following.id, "the attempt that was written ahead must not stay open"
    assert step.cost_nusd == 200_000


async def broken_off(claim: Claimed, until: Any) -> None:
    running = asyncio.create_task(claim.run.run())
    async with asyncio.timeout(10):
        while not until():  # noqa: ASYNC110  # a plain look at what the run has done so far
            await asyncio.sleep(0.001)
    running.cancel()
    if claim.holds is not None:
        claim.holds.set()  # the commit under way comes to its end
    with pytest.raises(asyncio.CancelledError):
        await running


def test_the_reserve_covers_a_long_output_and_a_long_prompt() -> None:
    """What an attempt reserves is its worst case: it may not cost more than that."""
    spec = SpecBody(type="generate", name="essay", instructions="i" * 90_000, max_output_tokens=20_000)
    claim = Claimed(Provider(), spec=spec, type="generate", spec_id=spec.id, input_json='{"prompt":"write"}')
    worst = (90_000 // 4) * 1_000 + 20_000 * 10_000
    assert (claim.attempt.reserved_nusd or 0) >= worst


def test_the_reserve_counts_bytes_of_any_script() -> None:
    latin, other = (Claimed(Provider(), input_json=f'{{"text":"{letter * 9_000}"}}').attempt for letter in "a漢")
    assert (other.reserved_nusd or 0) > (latin.reserved_nusd or 0)


async def test_a_deadline_that_passed_ends_the_task_instead_of_a_further_call() -> None:
    at = datetime.now(UTC)
    claim = Claimed(Provider(OVERLOADED), claimed_at=at, deadline=at - timedelta(seconds=1))
    step = await claim.run.run()
    assert getattr(step.next, "state", None) == "expired"


async def test_a_run_outlives_its_runtimes_specs() -> None:
    """A worker that has met many specs forgets some, and runs under way go on."""
    claim = Claimed(Provider(OVERLOADED, answered("bug")))
    claim.runtime.kinds = {}
    step = await claim.run.run()
    assert getattr(step.next, "state", None) == "succeeded"


def test_a_task_that_no_deployment_may_run_does_not_wait_for_ever() -> None:
    """A deployment that the configuration no longer names: the claim must end the task, not hand it round."""
    runtime = TierRuntime(SETTINGS, "small", Provider())  # type: ignore[arg-type]
    runtime.kinds[SPEC.id] = Kind(SPEC)
    first = runtime.first_attempt(claimed(constraints={"require": {"region": "mars"}}))
    assert first is not None, "None says: it has to wait, and its chunk goes back to the broker at once, for ever"


async def test_being_throttled_is_no_reason_to_give_up() -> None:
    calls = SETTINGS.worker.max_attempts
    throttled = ProviderError(ErrorClass.RATE_LIMITED, "slow down", 429, retry_after_s=5.0)
    step = await Claimed(Provider(throttled), attempts=calls - 1).run.run()
    assert isinstance(step.next, Requeued)
    assert (step.next.after_s, step.next.uncounted) == (pytest.approx(5.0, abs=0.5), 1)


async def test_nor_is_a_probe_that_fails() -> None:
    claim = Claimed(Provider(OVERLOADED, OVERLOADED), attempts=SETTINGS.worker.max_attempts - 1)
    claim.run._attempt = replace(claim.attempt, permit=replace(claim.attempt.permit, is_probe=True))
    step = await claim.run.run()
    assert isinstance(step.next, Ended)
    assert step.next.error == "10 calls were made: mini: overloaded, other: overloaded", "the next call counts"
    assert isinstance(claim.recorded[0].next, PermittedAttempt)
