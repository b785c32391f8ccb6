"""Gives permits to calls, at once and out of what this process was given ahead: nobody waits for Redis here."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tierq_shared.deployments import Deployment
from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import Limit as LimitSettings
from tierq_workers.permits.breakers import Breaker
from tierq_workers.permits.deciders import Asks, Replies
from tierq_workers.permits.keys import breaker_key, limit_key
from tierq_workers.permits.limits import Limit
from tierq_workers.providers.allowances import Allowance
from tierq_workers.providers.base import Completion, ProviderError

log = logging.getLogger("tierq.worker")

RETRY_AFTER_CAP_S = 120.0
"""However long a provider asks us to wait, we look again after this."""
RATE_LIMIT_REST_S = 1.0
"""Where a provider throttles and does not say for how long: the lowered rate does the rest."""
QUOTA_REST_S = 300.0
_PROBE_MARGIN_S = 5.0


class RestKind(Enum):
    """Why a deployment may not be called: it decides who may pass it by."""

    THROTTLED = auto()
    """A rate limit. Normal under load, so only urgent work takes a dearer deployment instead."""
    BROKEN = auto()
    """An open breaker, quota, credentials: everybody takes the next deployment."""


@dataclass(frozen=True, slots=True)
class Permit:
    """One call may be made."""

    deployment: str
    tokens: int
    """Reserved of the limit's tokens."""
    cuts: int
    """How often the limit's rate had been cut, as far as this process knew."""
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """No call may be made now."""

    kind: RestKind
    seconds: float
    """Until it is worth asking again."""


class Desk:
    """The permits of one worker process, for the deployments of its tier. Safe to use from any thread."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        limits: Mapping[str, LimitSettings] | None = None,
        *,
        holder: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, Limit] = {}
        self._limit_of: dict[str, Limit] = {}
        self._breakers: dict[str, Breaker] = {}
        self._configured: dict[str, tuple[int, int]] = {}
        self._paused: frozenset[str] = frozenset()
        for deployment in deployments:
            key = limit_key(deployment)
            configured = (limits or {}).get(deployment.limit or "")
            rpm, tpm = (configured.rpm or 0, configured.tpm or 0) if configured else (0, 0)
            self._limit_of[deployment.name] = self._limits.setdefault(key, Limit(key, rpm, tpm))
            self._configured[deployment.name] = (rpm, tpm)
            probe_s = deployment.timeout_s + _PROBE_MARGIN_S
            self._breakers[deployment.name] = Breaker(breaker_key(deployment.name), holder, probe_s)

    def steer(self, paused: frozenset[str], limits: Mapping[str, tuple[int | None, int | None]]) -> None:
        """What operators have set: deployments that nobody calls, and RPM and TPM in place of configured ones."""
        with self._lock:
            self._paused = paused
            for name, (rpm, tpm) in self._configured.items():
                given = limits.get(name, (None, None))
                self._limit_of[name].configure(given[0] or rpm, given[1] or tpm)

    def ask(self, deployment: str, estimate: float = 0.0) -> Permit | Closed:
        """A permit for one call of about so many tokens, or why there is none now."""
        with self._lock:
            now = self._clock()
            self._breakers[deployment].want(now)
            self._limit_of[deployment].want(now)
            closed = self._closed(deployment, now)
            return closed or self._give(deployment, estimate, now)

    def insist(self, deployment: str, estimate: float = 0.0) -> Permit:
        """A permit for a call that cannot wait, such as a re-ask; later calls wait longer for it."""
        with self._lock:
            return self._give(deployment, estimate, self._clock())

    def closed(self, deployment: str) -> Closed | None:
        """Why a deployment may not be called now; None where it may be."""
        with self._lock:
            return self._closed(deployment, self._clock())

    def room(self, deployment: str, *, is_first: bool) -> float | None:
        """How many calls may begin now; infinite where nothing bounds them, None where it is broken.

        Permits are asked for ahead for the deployment that comes ``is_first``; of another it is only known, before a
        task asks for one, whether it rests.
        """
        with self._lock:
            now, breaker, limit = self._clock(), self._breakers[deployment], self._limit_of[deployment]
            breaker.want(now)
            if deployment in self._paused or breaker.closed_for(now) > 0:
                return None
            if is_first:
                limit.want(now)
            room = limit.room(now) if is_first or limit.is_resting(now) else max(1.0, limit.room(now))
            return min(1.0, room) if breaker.is_probing else room

    def is_for_good(self, deployment: str) -> bool:
        """Whether nothing but another configuration makes a deployment usable."""
        return self._breakers[deployment].is_for_good

    def settle(
        self, permit: Permit, answer: Completion | ProviderError | None, allowance: Allowance | None = None
    ) -> None:
        """A call has ended: with an answer, with an error, or given up by ourselves (None)."""
        with self._lock:
            now, limit = self._clock(), self._limit_of[permit.deployment]
            self._breakers[permit.deployment].ended(is_probe=permit.is_probe, failed=_failed(answer, permit))
            if allowance is not None:
                limit.told(allowance)
            if answer is not None:
                limit.used(permit.tokens, answer.usage.total_tokens, taken=not _is_throttle(answer))
            if isinstance(answer, ProviderError):
                self._rest(permit, answer, now)

    # What the keeper needs.

    def asks(self, waiting: int) -> Asks:
        """What to ask for and to report now, with so many tasks waiting."""
        with self._lock:
            now = self._clock()
            return {
                "limits": [limit.ask(now, waiting) for limit in self._limits.values()],
                "breakers": [breaker.ask(now) for breaker in self._breakers.values()],
            }

    def hear(self, asks: Asks, replies: Replies) -> None:
        """The replies to those asks."""
        with self._lock:
            now = self._clock()
            for limit, ask, reply in zip(self._limits.values(), asks["limits"], replies["limits"], strict=True):
                limit.hear(ask, reply, now)
            for breaker, answer in zip(self._breakers.values(), replies["breakers"], strict=True):
                breaker.hear(answer, now)

    def is_urgent(self, waiting: int) -> bool:
        """Whether asking at once would help this process or the others."""
        with self._lock:
            now = self._clock()
            return any(limit.is_short(now, waiting) for limit in self._limits.values()) or any(
                breaker.is_urgent(now) for breaker in self._breakers.values()
            )

    # Under the lock.

    def _closed(self, deployment: str, now: float) -> Closed | None:
        if deployment in self._paused:
            return Closed(RestKind.BROKEN, RETRY_AFTER_CAP_S)
        broken_s = self._breakers[deployment].closed_for(now)
        if broken_s > 0:
            return Closed(RestKind.BROKEN, broken_s)
        throttled_s = self._limit_of[deployment].wait_s(now)
        return Closed(RestKind.THROTTLED, throttled_s) if throttled_s > 0 else None

    def _give(self, deployment: str, estimate: float, now: float) -> Permit:
        limit = self._limit_of[deployment]
        tokens = limit.scaled(estimate)
        limit.take(tokens)
        return Permit(deployment, tokens, limit.cuts, self._breakers[deployment].enter(now))

    def _rest(self, permit: Permit, error: ProviderError, now: float) -> None:
        breaker = self._breakers[permit.deployment]
        match error.error_class:
            case ErrorClass.RATE_LIMITED:
                seconds = RATE_LIMIT_REST_S if error.retry_after_s is None else error.retry_after_s
                self._limit_of[permit.deployment].throttled(permit.cuts, min(seconds, RETRY_AFTER_CAP_S), now)
            case ErrorClass.QUOTA_EXHAUSTED:
                if breaker.closed_for(now) == 0:
                    log.error("deployment %s: quota exhausted; it rests for %d s", permit.deployment, QUOTA_REST_S)
                breaker.rest(QUOTA_REST_S, now)
            case ErrorClass.AUTH:
                if not breaker.is_for_good:
                    log.error(
                        "deployment %s: the provider refuses its key or its right (HTTP %s); it is not called until "
                        "the configuration changes and the worker is started anew",
                        permit.deployment,
                        error.http_status,
                    )
                breaker.rest(math.inf, now)


def _is_throttle(answer: Completion | ProviderError) -> bool:
    return isinstance(answer, ProviderError) and answer.error_class is ErrorClass.RATE_LIMITED


def _failed(answer: Completion | ProviderError | None, permit: Permit) -> bool | None:
    """Whether a call speaks against its deployment; None where it says nothing."""
    if answer is None:
        return None
    if not isinstance(answer, ProviderError):
        return False
    match answer.error_class:
        case ErrorClass.OVERLOADED:
            return True
        case ErrorClass.QUOTA_EXHAUSTED | ErrorClass.AUTH:
            return None
        case ErrorClass.RATE_LIMITED:
            # It is no sign of health, unless health is what was asked for: somebody answered.
            return False if permit.is_probe else None
        case _:
            return False
