"""How well shared limits are kept and used, in simulated time: no sleep, and the same figures each time."""

from __future__ import annotations

from random import Random

import pytest

from support.simulated_provider import ONE, Provider, World
from tierq_shared.money import Usage
from tierq_shared.outcomes import ErrorClass
from tierq_workers.permits.desk import Closed, Permit, RestKind
from tierq_workers.permits.limits import BLOCK_S, WANTED_S
from tierq_workers.providers.allowances import Allowance
from tierq_workers.providers.base import Completion, ProviderError

WARM_UP_S = 15.0
LEARNING_S = 60.0


def throttled(retry_after_s: float) -> ProviderError:
    return ProviderError(ErrorClass.RATE_LIMITED, "slow down", 429, retry_after_s)


# A limit that is configured.


@pytest.mark.parametrize("rpm", [300, 1_200, 12_000])
async def test_configured_requests_are_used_shared_and_kept_to(rpm: int) -> None:
    world = World(Provider(rpm=rpm), {"rpm": rpm})
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    assert figures.least_share >= 0.2
    if rpm >= 1_200:
        assert figures.trips <= 1


@pytest.mark.parametrize("tpm", [60_000, 600_000])
async def test_configured_tokens_are_used_shared_and_kept_to(tpm: int) -> None:
    world = World(Provider(tpm=tpm, burst_s=2), {"tpm": tpm})
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    assert figures.least_share >= 0.2
    if tpm / 60 / 150 >= 20:
        assert figures.trips <= 1


async def test_tokens_hold_where_calls_are_of_very_different_size() -> None:
    def size(random: Random) -> int:
        return 3_000 if random.random() < 0.1 else 60

    world = World(Provider(tpm=240_000, burst_s=4), {"tpm": 240_000}, size=size)
    await world.run(WARM_UP_S)
    figures = await world.measure(120)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    assert figures.least_share >= 0.15


async def test_estimates_that_are_far_off_are_corrected() -> None:
    world = World(Provider(tpm=120_000, burst_s=2), {"tpm": 120_000}, estimate=lambda tokens: tokens / 5)
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01


async def test_a_large_call_leaves_a_debt_that_the_next_ones_wait_for() -> None:
    world = World(Provider(tpm=60_000, burst_s=60), {"tpm": 60_000}, processes=1, size=lambda _: 5_000)
    await world.run(10)
    (process,) = world.all
    process.forget()
    await world.run(60)
    # 60,000 tokens are twelve calls; one more may fall on an edge of the minute.
    assert 11 <= process.served <= 13
    assert isinstance(process.desk.ask(ONE, 5_000), Closed)


async def test_what_a_call_used_beyond_its_permit_is_paid_by_the_next_ones() -> None:
    world = World(Provider(tpm=60_000), {"tpm": 60_000}, processes=2)
    first, second = world.all
    await world.sync(first)
    first.desk.settle(first.desk.insist(ONE, 100), Completion("", Usage(input_tokens=5_100)))
    await world.sync(first)
    second.desk.ask(ONE)
    # 5,000 tokens at 1,000 a second, but for what was saved up.
    assert 4.0 <= (await world.sync(second))["delay"] <= 5.5


@pytest.mark.parametrize("rpm", [1_200, 12_000])
async def test_of_forty_processes_none_starves(rpm: int) -> None:
    world = World(Provider(rpm=rpm), {"rpm": rpm}, processes=40)
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    assert figures.least_share >= 0.5 / 40
    assert figures.most_share <= 2 / 40


# A limit that the provider tells, or that is only learned.


async def test_a_limit_that_headers_tell_is_kept_without_being_configured() -> None:
    world = World(Provider(rpm=1_200, tells=True))
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    assert figures.least_share >= 0.2
    assert figures.trips <= 1


async def test_a_configured_limit_above_the_told_one_gives_way() -> None:
    world = World(Provider(rpm=1_200, tells=True), {"rpm": 12_000})
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert figures.used >= 0.95
    assert figures.refused <= 0.01
    # It is the told one that holds, not one that is learned from refusals.
    assert [(await world.sync(process))["rate"] for process in world.all] == [20.0] * 4


async def test_a_configured_limit_below_the_told_one_holds() -> None:
    world = World(Provider(rpm=12_000, tells=True), {"rpm": 1_200})
    await world.run(WARM_UP_S)
    figures = await world.measure(60)
    assert 0.095 <= figures.used <= 0.101


@pytest.mark.parametrize("configured", [{}, {"rpm": 12_000}], ids=["nothing is known", "configured too high"])
async def test_a_limit_that_nobody_tells_is_learned(configured: dict[str, int]) -> None:
    world = World(Provider(rpm=1_200), configured)
    await world.run(LEARNING_S)
    figures = await world.measure(120)
    assert figures.used >= 0.9
    assert figures.refused <= 0.02
    assert figures.least_share >= 0.2
    assert figures.trips <= 1


async def test_a_learned_limit_that_is_raised_is_found_again() -> None:
    world = World(Provider(rpm=1_200))
    await world.run(LEARNING_S)
    world.provider = Provider(rpm=4_800)
    await world.run(120)
    assert (await world.measure(60)).used >= 0.9


async def test_the_rate_falls_with_the_very_next_reply_and_for_every_process() -> None:
    world = World(Provider(rpm=12_000), {"rpm": 1_200}, processes=3)
    await world.run(5)
    first, *others = world.all
    before = (await world.sync(first))["rate"]
    permit = first.desk.insist(ONE)
    first.desk.settle(permit, throttled(0.0))
    after = (await world.sync(first))["rate"]
    assert after < before == 20.0
    for other in others:
        assert (await world.sync(other))["rate"] == after


async def test_calls_that_began_before_a_cut_do_not_cut_again() -> None:
    world = World(Provider(rpm=12_000), {"rpm": 1_200}, processes=2)
    first, second = world.all
    for process in world.all:
        await world.sync(process)
    begun = [(process, process.desk.insist(ONE)) for process in (first, first, second)]
    rates = []
    for process, permit in begun:
        process.desk.settle(permit, throttled(0.0))
        rates.append((await world.sync(process))["rate"])
    assert rates == [18.0, 18.0, 18.0]
    first.desk.settle(first.desk.insist(ONE), throttled(0.0))
    assert (await world.sync(first))["rate"] < 18.0


async def test_retry_after_rests_every_process() -> None:
    world = World(Provider(rpm=12_000), {"rpm": 1_200}, processes=3)
    await world.run(5)
    first = world.all[0]
    first.desk.settle(first.desk.insist(ONE), throttled(7.0))
    for process in world.all:
        await world.sync(process)
        closed = process.desk.closed(ONE)
        assert closed is not None
        assert closed.kind is RestKind.THROTTLED
        assert closed.seconds == pytest.approx(7.0)
    begun = [process.begun for process in world.all]
    await world.run(6.9)
    assert [process.begun for process in world.all] == begun
    await world.run(2)
    assert all(process.begun > count for process, count in zip(world.all, begun, strict=True))


# Permits that nobody uses.


async def test_an_idle_process_gives_back_what_it_holds() -> None:
    world = World(Provider(rpm=1_200), {"rpm": 1_200})
    await world.run(5)
    idle, *_ = world.all
    idle.waiting = 0
    await world.sync(idle)
    assert idle.held > 0
    await world.run(WANTED_S + 1)
    assert idle.held == 0
    figures = await world.measure(30)
    assert figures.used >= 0.95
    assert figures.least_share == 0


async def test_a_process_that_dies_takes_no_more_than_its_block_along() -> None:
    world = World(Provider(rpm=12_000), {"rpm": 12_000})
    await world.run(5)
    victim = world.all[0]
    victim.waiting = 0  # so that its block is still unused when it dies
    for process in world.all:
        process.forget()
    await world.sync(victim)
    held, victim.is_alive = victim.held, False
    await world.run(30)
    assert 0 < held <= 2 * 200 * BLOCK_S
    served = sum(process.served for process in world.all)
    # The others have at most a block each in hand when the time ends.
    in_hand = sum(process.held for process in world.all[1:])
    assert 30 * 200 - held - in_hand <= served <= 30 * 200 * 1.01


# What else goes through a desk.


async def test_an_unknown_limit_bounds_nothing_and_asks_for_nothing() -> None:
    world = World(Provider(rpm=1e9), processes=1)
    await world.run(5)
    (process,) = world.all
    assert process.refused == process.given == 0
    assert isinstance(process.desk.ask(ONE), Permit)
    assert process.trips <= 6


async def test_a_told_zero_left_pauses_everybody_before_the_refusal() -> None:
    world = World(Provider(rpm=12_000), {"rpm": 1_200}, processes=2)
    first, second = world.all
    first.desk.settle(first.desk.insist(ONE), None, Allowance(1_200.0, 0.0, 0, None))
    await world.sync(first)
    second.desk.ask(ONE)
    reply = await world.sync(second)
    assert reply["given"] > 0
    assert reply["delay"] >= 0.1
