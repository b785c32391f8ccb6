"""How long breakers were open, from what the state Redis remembers of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tierq_insight.report.figures import BreakerTimes
from tierq_insight.report.scope import Scope

_ENDLESS = datetime.max.replace(tzinfo=UTC)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """Something that happened to a deployment's breaker or limit."""

    at: datetime
    state: str
    """`open`, `closed`, `resting` or `throttled`."""
    seconds: float | None = None
    """How long it was to last, where it was said."""


@dataclass(frozen=True, slots=True)
class _Span:
    state: str
    began: datetime
    ended: datetime


def breaker_times(events: Mapping[str, Iterable[BreakerEvent]], scope: Scope, now: datetime) -> list[BreakerTimes]:
    """What breakers did within the scope's time. ``events``: by deployment, in any order.

    An open breaker stays open past its time until a probe closes it; a rest ends by itself.
    """
    since, until = scope.since or _BEGINNING, min(scope.until or now, now)
    return [_times(name, sorted(found, key=lambda event: event.at), since, until) for name, found in events.items()]


def _times(name: str, events: Sequence[BreakerEvent], since: datetime, until: datetime) -> BreakerTimes:
    within = [event for event in events if since <= event.at < until]
    spans = _spans(events)
    return BreakerTimes(
        deployment=name,
        openings=sum(event.state == "open" for event in within),
        open_s=_length((span for span in spans if span.state == "open"), since, until),
        rests=sum(event.state == "resting" for event in within),
        rest_s=_length((span for span in spans if span.state == "resting"), since, until),
        cuts=sum(event.state == "throttled" for event in within),
        is_open=any(span.began < until <= span.ended for span in spans),
    )


def _spans(events: Sequence[BreakerEvent]) -> list[_Span]:
    """When it was open or rested: from such an event to the next that says otherwise."""
    told = [event for event in events if event.state != "throttled"]
    ends = [*(event.at for event in told), _ENDLESS][1:]
    return [
        _Span(event.state, event.at, min(end, _rested(event)))
        for event, end in zip(told, ends, strict=True)
        if event.state != "closed"
    ]


def _rested(event: BreakerEvent) -> datetime:
    if event.state != "resting" or event.seconds is None:
        return _ENDLESS
    return datetime.fromtimestamp(event.at.timestamp() + event.seconds, UTC)


def _length(spans: Iterable[_Span], since: datetime, until: datetime) -> float:
    return sum(max(0.0, (min(span.ended, until) - max(span.began, since)).total_seconds()) for span in spans)
