"""Limits and breakers in a real Redis: the same as in a process, shared by all, and what happens when Redis is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.permits import Asker, ClockedRedis, breaker_ask, limit_ask
from support.servers import RedisServer, fresh_redis
from support.simulated_provider import ONE, Clock
from tierq_shared.deployments import Deployment
from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import Limit
from tierq_workers.permits.deciders import Asks, LocalDecider, RedisDecider
from tierq_workers.permits.desk import QUOTA_REST_S, Desk, Permit, RestKind
from tierq_workers.permits.keeper import Keeper
from tierq_workers.permits.keys import breaker_key, events_key
from tierq_workers.providers.allowances import Allowance
from tierq_workers.providers.base import ProviderError

PATIENCE_S = 30.0


# One set of rules.

KEYS = st.sampled_from(["tierq:{state}:limit:a", "tierq:{state}:limit:b"])
BREAKER_KEYS = st.sampled_from(["tierq:{state}:deployment:a", "tierq:{state}:deployment:b"])
RATES = st.sampled_from([0.0, 0.0, 60.0, 1_200.0])
LIMIT_ASKS = st.builds(
    limit_ask,
    key=KEYS,
    rpm=RATES,
    tpm=st.sampled_from([0.0, 60_000.0]),
    requests=st.integers(-3, 30),
    tokens=st.floats(-5_000, 5_000),
    spent=st.floats(-2_000, 2_000),
    sent=st.integers(0, 50),
    is_empty=st.booleans(),
    told_rpm=RATES,
    told_tpm=st.sampled_from([0.0, 30_000.0]),
    knew_rpm=RATES,
    none_left=st.booleans(),
    no_tokens_left=st.booleans(),
    throttled=st.integers(-1, 4),
    rest=st.sampled_from([0.0, 0.0, 0.5, 30.0]),
    learned=st.sampled_from([0.0, 3.5]),
)
BREAKER_ASKS = st.builds(
    breaker_ask,
    key=BREAKER_KEYS,
    holder=st.sampled_from(["worker 1e5", "worker 42"]),
    ok=st.integers(0, 10),
    failed=st.integers(0, 20),
    wants_probe=st.booleans(),
    probe_result=st.sampled_from(["", "", "ok", "failed", "none"]),
    rest=st.sampled_from([0.0, 0.0, 0.0, 300.0]),
)
STEPS = st.tuples(
    st.sampled_from([0.0, 0.05, 1.0, 6.0, 30.0]),
    # A desk asks for each key once.
    st.lists(LIMIT_ASKS, max_size=2, unique_by=lambda ask: ask["key"]),
    st.lists(BREAKER_ASKS, max_size=2, unique_by=lambda ask: ask["key"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=12))
def test_redis_and_a_process_decide_alike(state_server: Path, steps: list[Any]) -> None:
    clock = Clock(1_750_000_000.0)
    there, here = ClockedRedis(state_server, clock), LocalDecider(clock=clock)
    there.redis.flushall()
    for passed_s, limits, breakers in steps:
        clock.at += passed_s
        asks: Asks = {"limits": limits, "breakers": breakers}
        in_redis, in_process = Asker(there).all(asks), Asker(here).all(asks)
        for kind in ("limits", "breakers"):
            for one, other in zip(in_redis[kind], in_process[kind], strict=True):
                # cjson writes 14 digits.
                assert one == pytest.approx(other, rel=1e-9, abs=1e-4)
    there.redis.close()


# Through desks and keepers.


def desk(holder: str, rpm: int | None = 6_000) -> Desk:
    deployment = Deployment(name=ONE, provider="openai", model="m", limit="account")
    return Desk([deployment], {"account": Limit(rpm=rpm)}, holder=holder)


async def sync(one: Desk, decider: RedisDecider | LocalDecider, waiting: int = 0) -> Any:
    asks = one.asks(waiting)
    replies = await decider.decide(asks)
    one.hear(asks, replies)
    return replies


def test_a_quota_rest_is_seen_by_another_process(state_socket: Path) -> None:
    async def story() -> None:
        first, second = desk("a"), desk("b")
        here, there = RedisDecider(f"unix://{state_socket}"), RedisDecider(f"unix://{state_socket}")
        error = ProviderError(ErrorClass.QUOTA_EXHAUSTED, "pay first", 429)
        first.settle(first.insist(ONE), error)
        await sync(first, here)
        await sync(second, there)
        closed = second.closed(ONE)
        assert closed is not None
        assert closed.kind is RestKind.BROKEN
        assert QUOTA_REST_S - 10 <= closed.seconds <= QUOTA_REST_S
        assert b"quota exhausted" in redis.Redis(unix_socket_path=str(state_socket)).lindex(
            events_key(breaker_key(ONE)), 0
        )
        await here.aclose()
        await there.aclose()

    asyncio.run(story())


def test_a_redis_that_forgot_the_script_is_told_it_again(state_socket: Path) -> None:
    async def story() -> None:
        one, decider = desk("a"), RedisDecider(f"unix://{state_socket}")
        await sync(one, decider)
        redis.Redis(unix_socket_path=str(state_socket)).script_flush()
        assert (await sync(one, decider))["limits"][0]["rate"] == 100
        await decider.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("learned", [False, True], ids=["told", "learned"])
def test_what_was_told_and_learned_outlives_an_emptied_redis(state_socket: Path, *, learned: bool) -> None:
    async def story() -> None:
        decider = RedisDecider(f"unix://{state_socket}")
        one = desk("a", rpm=None)
        one.settle(one.insist(ONE), None, Allowance(600.0))
        await sync(one, decider)
        if learned:
            one.settle(one.insist(ONE), ProviderError(ErrorClass.RATE_LIMITED, "slow down", 429, 0.0))
        before = (await sync(one, decider))["limits"][0]["rate"]
        assert before == (9 if learned else 10)
        redis.Redis(unix_socket_path=str(state_socket)).flushall()
        shared = (await sync(one, decider))["limits"][0]
        assert (shared["rate"], shared["told_rpm"]) == (pytest.approx(before, rel=0.1), 600)
        # Nor is it lost to a process that decides for itself, as one of two.
        alone = (await sync(one, LocalDecider(processes=2)))["limits"][0]
        assert (alone["rate"], alone["told_rpm"]) == (pytest.approx(before / 2, rel=0.1), 600)
        await decider.aclose()

    asyncio.run(story())


def test_alone_a_process_takes_its_part_of_everything(clock: Clock) -> None:
    asker = Asker(LocalDecider(processes=4, clock=clock))
    assert asker.limit(rpm=1_200.0)["rate"] == 5
    told = asker.limit(key="told", knew_rpm=600.0)
    assert (told["rate"], told["told_rpm"]) == (2.5, 600)
    learned = asker.limit(key="learned", learned=8.0)
    assert (learned["rate"], learned["learned"]) == (2, 8)


class Worker:
    """A keeper at work: makes as many calls as it is permitted, each of which ends at once."""

    def __init__(self, url: str, live_workers: int) -> None:
        self.desk = desk("a")
        self.calls: list[float] = []
        self.keeper = Keeper(
            self.desk,
            url,
            waiting=lambda: 1_000,
            is_busy=lambda: True,
            processes=lambda: self._count(live_workers),
            on_change=self._call,
        )

    async def _count(self, live_workers: int) -> int:
        return live_workers

    def _call(self) -> None:
        while (self.desk.room(ONE, is_first=True) or 0) >= 1:
            permit = self.desk.ask(ONE)
            if not isinstance(permit, Permit):
                return
            self.desk.settle(permit, None)
            self.calls.append(time.monotonic())

    async def calls_more(self, count: int) -> float:
        """Waits for so many calls; how many a second there were."""
        since, start = len(self.calls), time.monotonic()
        while len(self.calls) < since + count:
            assert time.monotonic() - start < PATIENCE_S, f"{len(self.calls) - since} calls, {count} were expected"
            await asyncio.sleep(0.01)
        return count / (time.monotonic() - start)


def test_without_redis_work_goes_on_at_its_share_and_with_it_is_shared_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "tierq.worker")
    monkeypatch.setattr("tierq_workers.permits.keeper.REDIS_AGAIN_S", 0.5)

    async def story(server: RedisServer) -> None:
        worker = Worker(f"unix://{server.socket}", live_workers=2)
        running = asyncio.create_task(worker.keeper.run())
        await worker.calls_more(100)
        assert await worker.calls_more(200) <= 110
        await asyncio.to_thread(server.kill)
        await worker.calls_more(60)
        # Several tries of Redis lie in here; it says so once.
        alone = await worker.calls_more(100)
        assert 10 <= alone <= 60
        (warning,) = [one.getMessage() for one in caplog.records]
        assert warning.startswith("the state Redis cannot be reached (ConnectionError)")
        await asyncio.to_thread(server.start)
        state = redis.Redis(unix_socket_path=str(server.socket))
        while not state.keys("tierq:*"):
            await worker.calls_more(10)
        await worker.calls_more(100)
        assert await worker.calls_more(200) > 1.2 * alone
        assert caplog.records[-1].getMessage().startswith("the state Redis is back")
        assert len(caplog.records) == 2
        running.cancel()
        await worker.keeper.aclose()
        state.close()

    with fresh_redis(tmp_path) as server:
        asyncio.run(story(server))
