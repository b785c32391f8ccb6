"""The rules of circuit breakers, in a real Redis and in a process: when they open, for how long, and who probes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from support.permits import KEY, Asker, ClockedRedis, breaker_ask
from support.simulated_provider import ONE, Clock
from tierq_shared.deployments import Deployment
from tierq_shared.settings import Settings
from tierq_workers.permits import deciders
from tierq_workers.permits.deciders import KEEP_EVENTS, Asks, LocalDecider, RedisDecider
from tierq_workers.permits.history import BreakerSeen, Condition, History
from tierq_workers.permits.keys import events_key

FIRST_OPEN_S = 5.0


@pytest.fixture(params=["redis", "process"])
def asker(request: pytest.FixtureRequest, state_socket: Path, clock: Clock) -> Asker:
    """Whoever decides, the rules are the same."""
    return Asker(ClockedRedis(state_socket, clock) if request.param == "redis" else LocalDecider(clock=clock))


# When a breaker opens.


@pytest.mark.parametrize(
    ("ok", "failed", "is_open"), [(0, 9, False), (0, 10, True), (5, 5, True), (6, 5, False), (1_000, 999, False)]
)
def test_it_opens_when_half_of_ten_calls_failed(asker: Asker, ok: int, failed: int, is_open: bool) -> None:
    asker.breaker(ok=ok)
    assert asker.breaker(failed=failed)["open"] is is_open


def test_failures_of_all_processes_count_together(asker: Asker) -> None:
    for number in range(9):
        assert not asker.breaker(f"worker {number}", failed=1)["open"]
    assert asker.breaker("worker 9", failed=1)["open"]
    assert asker.breaker("worker 0")["open"]


def test_failures_of_long_ago_do_not_count(asker: Asker, clock: Clock) -> None:
    asker.breaker(failed=9)
    clock.at += 20
    assert not asker.breaker(failed=9)["open"]
    clock.at += 10.5
    # Nearly all of the span before still counts.
    assert asker.breaker(failed=2)["open"]


def test_a_throttled_deployment_never_opens(asker: Asker) -> None:
    for _ in range(50):
        asker.limit(rpm=1_200.0, throttled=0, rest=1.0)
    assert not asker.breaker()["open"]


# How long it stays open.


def opens_for(asker: Asker) -> float:
    reply = asker.breaker(failed=10)
    assert reply["open"]
    return reply["delay"]


def probe(asker: Asker, clock: Clock, result: str) -> float:
    """Waits until it is half open, probes it, and says for how long it is open then."""
    clock.at += asker.breaker()["delay"]
    assert asker.breaker(wants_probe=True)["probe"]
    clock.at += 0.5
    return asker.breaker(probe_result=result)["delay"]


def test_each_probe_that_fails_doubles_the_wait_up_to_two_minutes(asker: Asker, clock: Clock) -> None:
    assert opens_for(asker) == FIRST_OPEN_S
    assert [probe(asker, clock, "failed") for _ in range(7)] == [10, 20, 40, 80, 120, 120, 120]


def test_a_breaker_that_had_closed_before_grows_the_same_way(asker: Asker, clock: Clock) -> None:
    opens_for(asker)
    assert probe(asker, clock, "ok") == 0
    assert opens_for(asker) == 10
    # It is not closed while it is open, however many minutes that takes.
    assert [probe(asker, clock, "failed") for _ in range(5)] == [20, 40, 80, 120, 120]


@pytest.mark.parametrize(("steady_s", "again"), [(59, 2 * FIRST_OPEN_S), (61, FIRST_OPEN_S)])
def test_after_a_steady_minute_it_starts_anew(asker: Asker, clock: Clock, steady_s: float, again: float) -> None:
    opens_for(asker)
    probe(asker, clock, "ok")
    clock.at += steady_s
    assert opens_for(asker) == again


# The probe.


def half_open(asker: Asker, clock: Clock) -> None:
    clock.at += opens_for(asker)


def test_a_success_closes_it_for_all(asker: Asker, clock: Clock) -> None:
    half_open(asker, clock)
    assert asker.breaker("worker a", wants_probe=True)["probe"]
    waits = asker.breaker("worker b", wants_probe=True)
    assert (waits["open"], waits["probe"]) == (True, False)
    asker.breaker("worker a", probe_result="ok")
    assert not asker.breaker("worker b")["open"]
    # The failures of before are forgotten.
    assert not asker.breaker("worker b", failed=9)["open"]


def test_nobody_probes_before_the_time(asker: Asker, clock: Clock) -> None:
    clock.at += opens_for(asker) - 0.1
    assert not asker.breaker(wants_probe=True)["probe"]
    clock.at += 0.1
    assert asker.breaker(wants_probe=True)["probe"]


def test_a_probe_that_never_comes_back_goes_to_another(asker: Asker, clock: Clock) -> None:
    half_open(asker, clock)
    assert asker.breaker("worker a", wants_probe=True, probe_s=65.0)["probe"]
    clock.at += 64.9
    assert not asker.breaker("worker b", wants_probe=True)["probe"]
    clock.at += 0.2
    assert asker.breaker("worker b", wants_probe=True)["probe"]
    # What the first one says now is too late.
    assert asker.breaker("worker a", probe_result="ok")["open"]
    assert not asker.breaker("worker b", probe_result="ok")["open"]


def test_a_probe_that_was_not_made_is_free_again(asker: Asker, clock: Clock) -> None:
    half_open(asker, clock)
    assert asker.breaker("worker a", wants_probe=True)["probe"]
    asker.breaker("worker a", probe_result="none")
    assert asker.breaker("worker b", wants_probe=True)["probe"]


def test_of_fifty_that_ask_at_once_exactly_one_probes(state_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fifty clients in one process may be slow to connect while other tests run: that is not what is asked here.
    monkeypatch.setattr(deciders, "TIMEOUT_S", 20.0)
    state = redis.Redis(unix_socket_path=str(state_socket))

    async def ask_all() -> list[int]:
        fifty = [RedisDecider(f"unix://{state_socket}") for _ in range(50)]
        asks: list[Asks] = [
            {"limits": [], "breakers": [breaker_ask(f"worker {number}", wants_probe=True)]} for number in range(50)
        ]
        given = []
        for _ in range(50):
            state.delete(KEY)
            state.hset(KEY, mapping={"open_until": 1, "openings": 1})
            replies = await asyncio.gather(*(one.decide(ask) for one, ask in zip(fifty, asks, strict=True)))
            given.append(sum(reply["breakers"][0]["probe"] for reply in replies))
        for decider in fifty:
            await decider.aclose()
        return given

    assert asyncio.run(ask_all()) == [1] * 50
    state.close()


# What is kept.


def test_events_are_kept_newest_first_and_bounded(state_socket: Path, clock: Clock) -> None:
    there = ClockedRedis(state_socket, clock)
    asker = Asker(there)
    for number in range(KEEP_EVENTS + 50):
        asker.breaker(rest=float(number + 1))
        clock.at += 1
    kept: Any = there.redis.lrange(events_key(KEY), 0, -1)
    assert [orjson.loads(raw)["seconds"] for raw in kept] == list(range(KEEP_EVENTS + 50, 50, -1))
    assert 0 < int(there.redis.ttl(events_key(KEY))) <= 7 * 86_400  # type: ignore[arg-type]
    there.redis.close()


def test_openings_and_closings_say_why(state_socket: Path, clock: Clock) -> None:
    there = ClockedRedis(state_socket, clock)
    asker = Asker(there)
    asker.breaker(ok=2)
    half_open(asker, clock)
    probe(asker, clock, "failed")
    probe(asker, clock, "ok")
    kept: Any = there.redis.lrange(events_key(KEY), 0, -1)
    events = [orjson.loads(raw) for raw in kept]
    assert [(event["state"], event.get("why"), event.get("seconds")) for event in events] == [
        ("closed", None, None),
        ("open", "the probe failed", 10),
        ("open", "10 of 12 calls failed", 5),
    ]
    assert there.redis.hget(KEY, "openings_total") == b"2"
    there.redis.close()


def test_what_is_shown_is_what_was_decided(state_socket: Path) -> None:
    one = Deployment(name=ONE, provider="openai", model="m")
    history = History(f"unix://{state_socket}", Settings(deployments={ONE: one.model_dump(exclude={"name"})}))

    def seen() -> BreakerSeen:
        return history.report([ONE]).breakers[0]

    # Redis's own clock shows it, so what happens is dated back by it.
    clock = Clock(time.time() - 20)
    there = ClockedRedis(state_socket, clock)
    asker = Asker(there)
    assert (seen().condition, seen().calls, seen().openings) == (Condition.CLOSED, 0, 0)
    half_open(asker, clock)
    assert (seen().condition, seen().is_probing) == (Condition.HALF_OPEN, False)
    assert asker.breaker(wants_probe=True)["probe"]
    assert (seen().condition, seen().is_probing) == (Condition.HALF_OPEN, True)
    clock.at = time.time()
    asker.breaker(probe_result="failed")
    assert seen().condition is Condition.OPEN
    assert 0 < seen().seconds <= 10
    assert seen().openings == 2
    asker.breaker(rest=300.0)
    assert seen().condition is Condition.RESTING
    assert 200 < seen().seconds <= 300
    assert [event.state for event in history.events(ONE)] == ["resting", "open", "open"]
    history.close()
    there.redis.close()
