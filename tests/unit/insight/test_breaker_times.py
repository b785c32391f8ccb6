"""How long breakers were open, from the events that the state Redis remembers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tierq_insight.report import BreakerEvent, Scope
from tierq_insight.report.breakers import breaker_times
from tierq_insight.report.figures import BreakerTimes

ALWAYS = Scope()
START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(seconds: float, state: str, lasts: float | None = None) -> BreakerEvent:
    return BreakerEvent(at(seconds), state, lasts)


def times(*events: BreakerEvent, scope: Scope = ALWAYS, now: float = 1_000) -> BreakerTimes:
    (found,) = breaker_times({"mini": list(events)}, scope, at(now))
    return found


def test_open_until_a_probe_closed_it() -> None:
    found = times(event(100, "closed"), event(40, "open", 30), event(0, "throttled"), event(70, "open", 60))
    assert found == BreakerTimes("mini", 2, 60.0, 0, 0.0, 1, is_open=False)


def test_a_rest_ends_by_itself_and_an_open_breaker_does_not() -> None:
    assert times(event(0, "resting", 300)) == BreakerTimes("mini", 0, 0.0, 1, 300.0, 0, is_open=False)
    assert times(event(900, "open", 30)) == BreakerTimes("mini", 1, 100.0, 0, 0.0, 0, is_open=True)


def test_only_what_lies_within_the_time_counts() -> None:
    events = (event(0, "open", 30), event(200, "closed"), event(300, "open", 30), event(400, "closed"))
    found = times(*events, scope=Scope(since=at(150), until=at(320)))
    assert found == BreakerTimes("mini", 1, 70.0, 0, 0.0, 0, is_open=True)


def test_nothing_happened() -> None:
    assert times() == BreakerTimes("mini", 0, 0.0, 0, 0.0, 0, is_open=False)
