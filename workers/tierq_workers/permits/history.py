"""What the state Redis knows of deployments and their limits, for people and monitors. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import orjson
import redis

from tierq_shared.deployments import Deployment
from tierq_shared.settings import Settings
from tierq_shared.store.controls import NOTHING_SET, Controls, Override, limit_scope
from tierq_workers.permits.keys import breaker_key, events_key, limit_key

TIMEOUT_S = 3.0

# As decide.lua counts.
_WINDOW_S = 10.0
_SENT_WINDOW_S = 2.0

State = Mapping[str, float]


class Condition(StrEnum):
    """Whether a deployment may be called."""

    CLOSED = "closed"
    HALF_OPEN = "half open"
    """Its time is up: the next task probes it, or one does."""
    OPEN = "open"
    RESTING = "resting"
    """Its quota is exhausted."""
    PAUSED = "paused"
    """An operator has stopped it."""


@dataclass(frozen=True, slots=True)
class BreakerSeen:
    """A deployment and its breaker."""

    deployment: str
    provider: str
    model: str
    tiers: Mapping[str, int]
    """The tiers that it is in, with its place in the chain, from 1."""
    limit: str
    """The key of the limit that it draws on, in the report."""
    condition: Condition
    seconds: float
    """Until it is half open, or has rested."""
    is_probing: bool
    calls: int
    """Of the last 10 to 20 seconds; rate limits and what says nothing about its health are left out."""
    failures: int
    openings: int
    """Since the state Redis knows of it."""


@dataclass(frozen=True, slots=True)
class LimitSeen:
    """A limit, which several deployments may draw on."""

    name: str
    deployments: Sequence[str]
    rpm: float | None
    """Calls a minute that are allowed now; None where nothing bounds them."""
    rpm_from: str | None
    """`set` by an operator, `configured`, `told` or `learned`."""
    used: float | None
    """The part of it that was sent in the last seconds."""
    tpm: float | None
    tpm_from: str | None
    rest_s: float
    cuts: int
    """How often a call was throttled, and the rate lowered."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed what may be called."""

    at: datetime
    state: str
    """`open`, `closed`, `resting` or `throttled`."""
    seconds: float | None
    why: str | None
    rpm: float | None
    """What a throttled limit allows from then on."""


@dataclass(frozen=True, slots=True)
class Report:
    """One look at the state Redis."""

    breakers: Sequence[BreakerSeen]
    limits: Sequence[LimitSeen]


class History:
    """Reads the state Redis of a configuration. To be closed."""

    def __init__(self, url: str, settings: Settings, now_set: Callable[[], Controls] = lambda: NOTHING_SET) -> None:
        self._now_set = now_set
        self._redis = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True
        )
        self._settings = settings

    def report(self, names: Iterable[str]) -> Report:
        """These deployments and their limits, as they are now.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        deployments = [self._settings.deployments[name] for name in names]
        by_limit: dict[str, list[Deployment]] = {}
        for deployment in deployments:
            by_limit.setdefault(limit_key(deployment), []).append(deployment)
        keys = [*(breaker_key(one.name) for one in deployments), *by_limit]
        now, states = self._read(keys)
        now_set = self._now_set()
        breakers = [self._breaker(one, states[breaker_key(one.name)], now, now_set) for one in deployments]
        limits = [self._limit(drawing, states[key], now, now_set) for key, drawing in by_limit.items()]
        return Report(breakers, limits)

    def events(self, name: str) -> list[Event]:
        """What happened to a deployment and to its limit, newest first.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        pipe = self._redis.pipeline(transaction=False)
        for key in (breaker_key(name), limit_key(self._settings.deployments[name])):
            pipe.lrange(events_key(key), 0, -1)
        found = [_event(orjson.loads(raw)) for listed in pipe.execute() for raw in listed]
        return sorted(found, key=lambda event: event.at, reverse=True)

    def close(self) -> None:
        self._redis.close()

    def _read(self, keys: Sequence[str]) -> tuple[float, dict[str, State]]:
        """Redis's time, and what it holds under each key."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        for key in keys:
            pipe.hgetall(key)
        (seconds, microseconds), *hashes = pipe.execute()
        return seconds + microseconds / 1e6, {key: _numbers(hash_) for key, hash_ in zip(keys, hashes, strict=True)}

    def _breaker(self, deployment: Deployment, state: State, now: float, now_set: Controls) -> BreakerSeen:
        condition, seconds = _condition(state, now)
        if deployment.name in now_set.deployments:
            condition, seconds = Condition.PAUSED, 0.0
        failures = _counted(state, "failed", _WINDOW_S, now)
        return BreakerSeen(
            deployment=deployment.name,
            provider=deployment.provider,
            model=deployment.model,
            tiers={
                name: tier.chain.index(deployment.name) + 1
                for name, tier in self._settings.tiers.items()
                if deployment.name in tier.chain
            },
            limit=_limit_name(deployment),
            condition=condition,
            seconds=seconds,
            is_probing=condition is Condition.HALF_OPEN and state.get("probe_until", 0) > now,
            calls=round(failures + _counted(state, "ok", _WINDOW_S, now)),
            failures=round(failures),
            openings=int(state.get("openings_total", 0)),
        )

    def _limit(self, drawing: Sequence[Deployment], state: State, now: float, now_set: Controls) -> LimitSeen:
        configured = self._settings.limits.get(drawing[0].limit or "", _NONE)
        given = now_set.limits.get(limit_scope(drawing[0]), _NONE)
        learned = state.get("learned", 0) * 60
        rpm, rpm_from = _allowed(given.rpm, configured.rpm, state.get("told_rpm", 0), learned)
        tpm, tpm_from = _allowed(given.tpm, configured.tpm, state.get("told_tpm", 0))
        sent_rpm = _counted(state, "sent", _SENT_WINDOW_S, now) / _SENT_WINDOW_S * 60
        return LimitSeen(
            name=_limit_name(drawing[0]),
            deployments=[one.name for one in drawing],
            rpm=rpm,
            rpm_from=rpm_from,
            used=sent_rpm / rpm if rpm else None,
            tpm=tpm,
            tpm_from=tpm_from,
            rest_s=max(0.0, state.get("rest_until", 0) - now),
            cuts=int(state.get("cuts", 0)),
        )


def _limit_name(deployment: Deployment) -> str:
    """The limit as the configuration names it, else as one that only this deployment draws on."""
    return deployment.limit or f"of {deployment.name}"


def _condition(state: State, now: float) -> tuple[Condition, float]:
    if state.get("rest_until", 0) > now:
        return Condition.RESTING, state["rest_until"] - now
    if "open_until" not in state:
        return Condition.CLOSED, 0.0
    if state["open_until"] > now:
        return Condition.OPEN, state["open_until"] - now
    return Condition.HALF_OPEN, 0.0


def _counted(state: State, name: str, window_s: float, now: float) -> float:
    """A count over the sliding window, as decide.lua would have it if it were asked now."""
    age = (now - state.get("window_at", 0)) / window_s
    if age < 1:
        return state.get(name, 0) + (1 - age) * state.get(f"{name}_before", 0)
    return max(0.0, 2 - age) * state.get(name, 0)


_NONE = Override(None, None)


def _allowed(
    given: int | None, configured: int | None, told: float, learned: float = 0.0
) -> tuple[float | None, str | None]:
    """The lowest of what is known, and where it comes from. What is ``given`` takes the configuration's place."""
    ours = {"set": float(given)} if given else {"configured": float(configured or 0)}
    known = {**ours, "told": told, "learned": learned}
    bounds = [(value, source) for source, value in known.items() if value > 0]
    return min(bounds) if bounds else (None, None)


def _numbers(hash_: Mapping[str, str]) -> State:
    """What a hash holds, but for who probes."""
    return {name: float(value) for name, value in hash_.items() if name != "prober"}


def _event(raw: Mapping[str, Any]) -> Event:
    return Event(
        at=datetime.fromtimestamp(raw["at"], UTC),
        state=cast(str, raw["state"]),
        seconds=raw.get("seconds"),
        why=raw.get("why"),
        rpm=raw.get("rpm"),
    )
