"""What follows a failed call, by the class of its error; and who may leave a throttled deployment."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from tierq_shared.deployments import Deployment
from tierq_shared.outcomes import ErrorClass
from tierq_workers.chain import (
    BACKOFF_CAP_S,
    Chain,
    Escalate,
    Fail,
    NextStep,
    Room,
    Trail,
    Wait,
    backoff_s,
)
from tierq_workers.chain import Call as PermittedCall
from tierq_workers.permits.desk import QUOTA_REST_S, RATE_LIMIT_REST_S, RETRY_AFTER_CAP_S, Desk, Permit
from tierq_workers.providers.base import ProviderError


def deployment(name: str, region: str | None = None) -> Deployment:
    return Deployment(name=name, provider="openai", model="m", region=region)


MINI, HAIKU, FLASH = deployment("mini", "us"), deployment("haiku", "eu"), deployment("flash", "eu")


class Clock:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


class Bench:
    """A chain of three deployments with a clock of its own."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.desk = Desk([MINI, HAIKU, FLASH], clock=self.clock)
        self.chain = Chain(
            [MINI, HAIKU, FLASH],
            self.desk,
            **{
                "spill_after_s": 60.0,
                "max_attempts": 10,
                "windows": {"mini": 100, "haiku": 50, "flash": 200},
                **options,
            },
        )

    def after(self, failed: Deployment, error: ProviderError, one: Trail) -> NextStep:
        """What follows a call that failed so."""
        self.rest(failed, error)
        return self.chain.after(failed, error, one)

    def rest(self, failed: Deployment, error: ProviderError) -> None:
        """A call of some other task failed so."""
        self.desk.settle(self.desk.insist(failed.name), error)

    def throttle(self, one: Deployment, seconds: float) -> None:
        self.rest(one, error(ErrorClass.RATE_LIMITED, seconds))


def Call(deployment: Deployment, *, reask: bool = False) -> PermittedCall:  # noqa: N802
    """A call, whatever its permit."""
    return PermittedCall(deployment, Permit(deployment.name, 0, 0), reask)


def trail(urgency: str = "standard", waited_s: float = 0.0, attempts: int = 1, **require: str) -> Trail:
    return Trail(urgency, waited_s, require, attempts)


def error(kind: ErrorClass, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(kind, f"because of {kind}", 400, retry_after_s)


# The table of error classes, row by row.


def test_rate_limited_rests_the_deployment_as_long_as_it_asks() -> None:
    bench = Bench()
    step = bench.after(MINI, error(ErrorClass.RATE_LIMITED, 7.0), trail())
    assert step == Wait(7.0)
    bench.clock.at += 7.0
    assert bench.chain.first(trail()) == Call(MINI)


@pytest.mark.parametrize(("asked", "rests"), [(None, RATE_LIMIT_REST_S), (9_999.0, RETRY_AFTER_CAP_S), (0.0, None)])
def test_a_rate_limits_rest_has_a_default_and_a_cap(asked: float | None, rests: float | None) -> None:
    step = Bench().after(MINI, error(ErrorClass.RATE_LIMITED, asked), trail())
    assert step == (Call(MINI) if rests is None else Wait(rests))


@pytest.mark.parametrize(
    ("urgency", "waited_s", "spills"),
    [
        ("interactive", 0.0, True),
        ("standard", 59.9, False),
        ("standard", 60.0, True),
        ("relaxed", 9_999.0, False),
    ],
)
def test_leaving_a_throttled_deployment_goes_by_urgency(urgency: str, waited_s: float, spills: bool) -> None:
    bench = Bench()
    step = bench.after(MINI, error(ErrorClass.RATE_LIMITED, 7.0), trail(urgency, waited_s))
    assert step == (Call(HAIKU) if spills else Wait(7.0))


def test_where_all_are_throttled_urgent_work_waits_for_the_soonest() -> None:
    bench = Bench()
    for one, seconds in ((MINI, 9.0), (HAIKU, 4.0), (FLASH, 6.0)):
        bench.throttle(one, seconds)
    assert bench.chain.first(trail("interactive")) == Wait(4.0)
    assert bench.chain.first(trail("relaxed")) == Wait(9.0)


def test_exhausted_quota_goes_to_the_next_deployment_and_rests_long() -> None:
    bench = Bench()
    assert bench.after(MINI, error(ErrorClass.QUOTA_EXHAUSTED), trail("relaxed")) == Call(HAIKU)
    assert bench.chain.first(trail("relaxed")) == Call(HAIKU)
    bench.clock.at += QUOTA_REST_S
    assert bench.chain.first(trail("relaxed")) == Call(MINI)


def test_overloaded_goes_to_the_next_deployment_for_this_task_alone() -> None:
    bench = Bench()
    assert bench.after(MINI, error(ErrorClass.OVERLOADED), trail()) == Call(HAIKU)
    assert bench.chain.first(trail()) == Call(MINI)


def test_where_every_deployment_is_overloaded_the_task_backs_off() -> None:
    bench, one = Bench(), trail(attempts=3)
    for failed, step in ((MINI, Call(HAIKU)), (HAIKU, Call(FLASH))):
        assert bench.after(failed, error(ErrorClass.OVERLOADED), one) == step
    last = bench.after(FLASH, error(ErrorClass.OVERLOADED), one)
    assert isinstance(last, Wait)
    assert 0.1 <= last.seconds <= 8.0


def test_a_bad_key_takes_the_deployment_out_until_the_configuration_changes() -> None:
    bench = Bench()
    assert bench.after(MINI, error(ErrorClass.AUTH), trail()) == Call(HAIKU)
    bench.clock.at += 1e9
    assert bench.chain.first(trail()) == Call(HAIKU)
    assert bench.desk.is_for_good("mini")


def test_where_every_key_is_bad_the_task_fails_and_names_each() -> None:
    bench, one = Bench(), trail()
    assert bench.after(MINI, error(ErrorClass.AUTH), one) == Call(HAIKU)
    assert bench.after(HAIKU, error(ErrorClass.AUTH), one) == Call(FLASH)
    step = bench.after(FLASH, error(ErrorClass.AUTH), one)
    assert step == Fail("all_deployments_failed", "mini: auth, haiku: auth, flash: auth")
    assert bench.chain.first(trail()) == Call(MINI)


def test_too_long_goes_to_a_larger_window_else_up() -> None:
    bench = Bench()
    assert bench.after(MINI, error(ErrorClass.TOO_LONG), trail()) == Call(FLASH)
    assert bench.after(FLASH, error(ErrorClass.TOO_LONG), trail()) == Escalate("too_long", "because of too_long")


def test_too_long_goes_up_where_nobody_knows_the_windows() -> None:
    bench = Bench(windows={})
    assert isinstance(bench.after(MINI, error(ErrorClass.TOO_LONG), trail()), Escalate)


def test_too_long_calls_no_deployment_that_rests() -> None:
    bench = Bench()
    bench.rest(FLASH, error(ErrorClass.AUTH))
    assert isinstance(bench.after(MINI, error(ErrorClass.TOO_LONG), trail()), Escalate)


def test_too_long_keeps_the_budget() -> None:
    step = Bench().after(MINI, error(ErrorClass.TOO_LONG), trail(attempts=10))
    assert not isinstance(step, PermittedCall)


def test_a_refusal_ends_the_task_unless_configured() -> None:
    assert Bench().after(MINI, error(ErrorClass.REFUSED), trail()) == Fail("refused", "because of refused")
    assert Bench(refusal_failover=True).after(MINI, error(ErrorClass.REFUSED), trail()) == Call(HAIKU)


def test_an_invalid_request_fails_at_once_with_the_providers_message() -> None:
    step = Bench().after(MINI, error(ErrorClass.INVALID_REQUEST), trail())
    assert step == Fail("invalid_request", "because of invalid_request")


def test_an_invalid_output_is_asked_for_once_more_then_goes_up() -> None:
    bench, one = Bench(), trail()
    assert bench.after(MINI, error(ErrorClass.INVALID_OUTPUT), one) == Call(MINI, reask=True)
    step = bench.after(MINI, error(ErrorClass.INVALID_OUTPUT), one)
    assert step == Escalate("invalid_output", "because of invalid_output")


# Budgets and what a task requires.


@pytest.mark.parametrize("kind", [ErrorClass.OVERLOADED, ErrorClass.QUOTA_EXHAUSTED])
def test_the_last_attempt_of_the_budget_ends_the_task(kind: ErrorClass) -> None:
    step = Bench(max_attempts=3).after(MINI, error(kind), trail(attempts=3))
    assert isinstance(step, Fail)
    assert (step.code, kind.value in step.message) == ("all_deployments_failed", True)


def test_a_task_waits_for_the_first_deployment_that_is_due() -> None:
    bench, one = Bench(), trail(region="eu")
    bench.rest(FLASH, error(ErrorClass.QUOTA_EXHAUSTED))
    bench.clock.at += QUOTA_REST_S - 60
    assert bench.after(HAIKU, error(ErrorClass.QUOTA_EXHAUSTED), one) == Wait(60.0)


def test_where_every_deployment_refuses_the_task_is_refused() -> None:
    bench, one = Bench(refusal_failover=True), trail(region="eu")
    assert bench.after(HAIKU, error(ErrorClass.REFUSED), one) == Call(FLASH)
    assert bench.after(FLASH, error(ErrorClass.REFUSED), one) == Fail("refused", "haiku: refused, flash: refused")


def test_no_re_ask_beyond_the_budget() -> None:
    step = Bench(max_attempts=3).after(MINI, error(ErrorClass.INVALID_OUTPUT), trail(attempts=3))
    assert isinstance(step, Fail)
    assert step.code == "invalid_output"


def test_what_a_task_requires_holds_on_fail_over_too() -> None:
    bench, one = Bench(), trail(region="eu")
    assert bench.chain.first(one) == Call(HAIKU)
    assert bench.after(HAIKU, error(ErrorClass.OVERLOADED), one) == Call(FLASH)
    assert isinstance(bench.after(FLASH, error(ErrorClass.OVERLOADED), one), Wait)
    assert isinstance(bench.after(MINI, error(ErrorClass.TOO_LONG), trail(region="us")), Escalate)


def test_where_no_deployment_may_run_it_a_task_fails() -> None:
    step = Bench().chain.first(trail(region="mars"))
    assert isinstance(step, Fail)
    assert "no deployment" in step.message


def test_an_interactive_task_takes_the_next_permit_where_that_is_near() -> None:
    bench = Bench()
    bench.throttle(MINI, 0.5)
    assert bench.chain.first(trail("interactive")) == Wait(0.5)


def test_the_chain_rests_until_most_work_can_go_on() -> None:
    bench = Bench()
    assert bench.chain.rest_s() == 0.0
    bench.throttle(MINI, 9.0)
    assert bench.chain.rest_s() == 9.0, "what is free is dearer, and few may take it"
    bench.rest(MINI, error(ErrorClass.QUOTA_EXHAUSTED))
    assert bench.chain.rest_s() == 0.0, "everybody passes a broken one by"
    bench.rest(HAIKU, error(ErrorClass.QUOTA_EXHAUSTED))
    bench.throttle(FLASH, 4.0)
    assert bench.chain.rest_s() == 4.0
    bench.rest(FLASH, error(ErrorClass.QUOTA_EXHAUSTED))
    assert bench.chain.rest_s() == RETRY_AFTER_CAP_S


def test_there_is_room_for_calls_where_nothing_bounds_them() -> None:
    bench = Bench()
    assert bench.chain.room() == Room(inf, inf)
    bench.throttle(MINI, 9.0)
    assert bench.chain.room() == Room(0, inf)
    bench.rest(MINI, error(ErrorClass.AUTH))
    assert bench.chain.room() == Room(inf, inf)
    for one in (HAIKU, FLASH):
        bench.rest(one, error(ErrorClass.QUOTA_EXHAUSTED))
    assert bench.chain.room() == Room(0, 0)


def test_where_every_key_is_bad_there_is_room_to_hear_it() -> None:
    bench = Bench()
    for one in (MINI, HAIKU, FLASH):
        bench.rest(one, error(ErrorClass.AUTH))
    assert bench.chain.room() == Room(inf, inf)


def test_a_longer_rest_is_not_shortened() -> None:
    bench = Bench()
    bench.rest(MINI, error(ErrorClass.AUTH))
    bench.throttle(MINI, 1.0)
    assert bench.desk.is_for_good("mini")


def test_back_off_grows_to_its_cap_with_full_jitter() -> None:
    for attempts in (1, 5, 50):
        spans = [backoff_s(attempts) for _ in range(200)]
        bound = min(BACKOFF_CAP_S, 2.0**attempts)
        assert 0.1 <= min(spans) < max(spans) <= bound
        assert min(spans) < bound / 4


# The order that a policy's rule names.


def ordered(*names: str, **options: Any) -> Trail:
    return replace(trail(**options), order=names)


@pytest.mark.parametrize(
    ("order", "tried"),
    [
        ((), ["mini", "haiku", "flash"]),
        (("flash", "mini", "haiku"), ["flash", "mini", "haiku"]),
        (("haiku",), ["haiku", "mini", "flash"]),
        (("elsewhere", "flash"), ["flash", "mini", "haiku"]),
    ],
)
def test_a_task_begins_and_fails_over_in_its_own_order(order: tuple[str, ...], tried: list[str]) -> None:
    bench, one, seen = Bench(), ordered(*order), []
    step: NextStep = bench.chain.first(one)
    while isinstance(step, PermittedCall):
        seen.append(step.deployment.name)
        step = bench.chain.after(step.deployment, error(ErrorClass.OVERLOADED), one)
    assert seen == tried, "a deployment that no configuration names is never called, and none is left out"


def test_the_order_never_overrules_what_a_task_requires() -> None:
    assert Bench().chain.first(ordered("haiku", "flash", region="us")) == Call(MINI)


def test_the_first_larger_window_is_taken_in_the_tasks_own_order() -> None:
    bench = Bench(windows={"mini": 100, "haiku": 150, "flash": 200})
    assert bench.after(MINI, error(ErrorClass.TOO_LONG), ordered("mini", "flash", "haiku")) == Call(FLASH)
    assert bench.after(MINI, error(ErrorClass.TOO_LONG), ordered("mini")) == Call(HAIKU)


def test_a_throttled_first_deployment_is_waited_for_in_the_tasks_own_order() -> None:
    bench = Bench()
    bench.throttle(FLASH, 9.0)
    assert bench.chain.first(ordered("flash", "mini")) == Wait(9.0)
    assert bench.chain.first(ordered("flash", "mini", urgency="interactive")) == Call(MINI)


def test_room_and_rest_look_at_every_order_that_tasks_may_have() -> None:
    bench = Bench()
    bench.throttle(MINI, 9.0)
    assert (bench.chain.room().first, bench.chain.rest_s()) == (0.0, 9.0)
    bench.chain.follow({(), ("haiku",)})
    assert (bench.chain.room().first, bench.chain.rest_s()) == (inf, 0.0)
    bench.chain.follow({()})
    assert (bench.chain.room().first, bench.chain.rest_s()) == (0.0, 9.0)
