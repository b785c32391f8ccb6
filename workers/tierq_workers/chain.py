"""Decides what is next for a task: which deployment, a re-ask, the next tier, a wait, or the end. No I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from tierq_shared.deployments import Deployment, in_order
from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import meets
from tierq_workers.permits.desk import RETRY_AFTER_CAP_S, Desk, Permit, RestKind
from tierq_workers.providers.base import ProviderError

BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 60.0

SPILL_PATIENCE_S = 1.0
"""Where the next permit is no further away, an interactive task takes it, rather than a dearer deployment."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call this deployment next; ``reask`` with what was wrong with its last answer."""

    deployment: Deployment
    permit: Permit = field(compare=False)
    reask: bool = False


@dataclass(frozen=True, slots=True)
class Escalate:
    """Go to the next tier up, if there is one that the task may use; else fail as ``code`` says."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait in SQL, holding nothing, for this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class OverCap:
    """Deployments could be called, and the caps that hold for the task have no room for any of them."""


NextStep = Call | Escalate | Wait | Fail | OverCap


class Fits(Protocol):
    """Whether a call to this deployment has room under the caps that hold for a task."""

    def __call__(self, deployment: Deployment, *, reask: bool = False) -> bool: ...


@dataclass(slots=True)
class Trail:
    """What has been tried for a task since it was claimed."""

    urgency: str
    waited_s: float
    """Since it was submitted, when it was claimed."""
    require: dict[str, str]
    calls: int
    """Calls so far that count against the budget, the one under way and those of earlier claims among them."""
    tokens: float = 0.0
    """What a call is expected to need."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Deployment and error class of each failed call."""
    reasked: bool = False
    order: tuple[str, ...] = ()
    """Deployments that are tried before the others of the chain, in this order, as the policy says."""
    passed: set[str] = field(default_factory=set)
    """Deployments that are not to be tried again in this claim."""
    fits: Fits | None = None
    """None where no cap holds for the task."""

    def may_call(self, deployment: Deployment) -> bool:
        """Whether no cap stands against it."""
        return self.fits is None or self.fits(deployment)


@dataclass(frozen=True, slots=True)
class Room:
    """How many calls may begin now, as far as this process knows; infinite where nothing bounds them."""

    first: float = inf
    """On the deployment that comes first, of those that work."""
    some: float = inf
    """On the roomiest of the chain, which only urgent or long waiting tasks may take instead."""


class Chain:
    """A tier's deployments in order, with what this process knows of each."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        desk: Desk,
        *,
        spill_after_s: float,
        max_attempts: int,
        windows: dict[str, int | None],
        refusal_failover: bool = False,
    ) -> None:
        self._deployments = list(deployments)
        self._ordered: dict[tuple[str, ...], list[Deployment]] = {(): self._deployments}
        self._orders: set[tuple[str, ...]] = {()}
        self._desk = desk
        self._spill_after_s = spill_after_s
        self._max_attempts = max_attempts
        self._windows = windows
        self._refusal_failover = refusal_failover

    def follow(self, orders: set[tuple[str, ...]]) -> None:
        """The orders that tasks may come with from now on, by which `room` and `rest_s` look ahead."""
        self._orders = orders
        self._ordered = {(): self._deployments}

    def first(self, trail: Trail) -> Call | Wait | Fail | OverCap:
        """Where a task begins: the first deployment that it may use now, or how long it has to wait."""
        usable = [
            one for one in self._in_order(trail.order) if meets(one, trail.require) and one.name not in trail.passed
        ]
        if not usable:
            return Fail("all_deployments_failed", _listed(trail) or "no deployment of this tier may run it")
        usable = [one for one in usable if trail.may_call(one)]
        if not usable:
            return OverCap()
        if all(self._desk.is_for_good(one.name) for one in usable):
            # Nothing but another configuration helps; a call says so in the provider's own words, and costs nothing.
            return Call(usable[0], self._desk.insist(usable[0].name, trail.tokens))
        return self._first_free(usable, trail)

    def after(self, failed: Deployment, error: ProviderError, trail: Trail) -> NextStep:
        """What follows a failed call, by the class of its error."""
        trail.failures.append((failed.name, error.error_class.value))
        match error.error_class:
            case ErrorClass.INVALID_REQUEST:
                return Fail("invalid_request", error.message)
            case ErrorClass.REFUSED if not self._refusal_failover:
                return Fail("refused", error.message)
            case ErrorClass.TOO_LONG:
                larger = self._larger(failed, trail) if trail.calls < self._max_attempts else None
                return larger or Escalate("too_long", error.message)
            case ErrorClass.INVALID_OUTPUT:
                return self._correct(failed, error, trail)
            case ErrorClass.RATE_LIMITED:
                pass  # its limit rests now, and the urgency decides
            case _:
                trail.passed.add(failed.name)
        return self._within_budget(trail)

    def rest_s(self) -> float:
        """How long it takes until most work can go on; 0 where it can now."""
        return min(self._rest_s(self._in_order(order)) for order in self._orders)

    def _rest_s(self, deployments: Sequence[Deployment]) -> float:
        spans = []
        for deployment in deployments:
            closed = self._desk.closed(deployment.name)
            if closed is None:
                return 0.0
            spans.append(min(closed.seconds, RETRY_AFTER_CAP_S))
            if closed.kind is RestKind.THROTTLED:
                # Most work waits for it even where a dearer one is free.
                return spans[-1]
        return min(spans)

    def room(self) -> Room:
        """How many tasks are worth claiming now."""
        if all(self._desk.is_for_good(one.name) for one in self._deployments):
            return Room()
        # Of several orders the roomiest: whoever comes with another one is looked at, and left where it cannot run.
        rooms = [self._room(self._in_order(order)) for order in self._orders]
        return Room(max(room.first for room in rooms), max(room.some for room in rooms))

    def _room(self, deployments: Sequence[Deployment]) -> Room:
        first: float | None = None
        some = 0.0
        for deployment in deployments:
            room = self._desk.room(deployment.name, is_first=first is None)
            if room is not None:
                first = room if first is None else first
                some = max(some, room)
        return Room(first or 0.0, some)

    def _in_order(self, order: tuple[str, ...]) -> list[Deployment]:
        known = self._ordered.get(order)
        if known is None:
            known = self._ordered[order] = in_order(self._deployments, order)
        return known

    def _first_free(self, usable: Sequence[Deployment], trail: Trail) -> Call | Wait:
        soonest = inf
        for deployment in usable:
            answer = self._desk.ask(deployment.name, trail.tokens)
            if isinstance(answer, Permit):
                return Call(deployment, answer)
            soonest = min(soonest, answer.seconds)
            if answer.kind is RestKind.THROTTLED and not self._may_spill(trail, answer.seconds):
                return Wait(answer.seconds)
        return Wait(min(soonest, RETRY_AFTER_CAP_S))

    def _may_spill(self, trail: Trail, wait_s: float) -> bool:
        """Whether a task may leave a throttled deployment for a dearer one."""
        if trail.urgency == "interactive":
            return wait_s > SPILL_PATIENCE_S
        return trail.urgency == "standard" and trail.waited_s >= self._spill_after_s

    def _larger(self, failed: Deployment, trail: Trail) -> Call | None:
        """A deployment with a larger context window than the one that was too small."""
        trail.passed.add(failed.name)
        window = self._windows.get(failed.name) or 0
        for deployment in self._in_order(trail.order):
            larger = (self._windows.get(deployment.name) or 0) > window
            may = deployment.name not in trail.passed and meets(deployment, trail.require)
            if larger and may and trail.may_call(deployment):
                answer = self._desk.ask(deployment.name, trail.tokens)
                if isinstance(answer, Permit):
                    return Call(deployment, answer)
        return None

    def _correct(self, failed: Deployment, error: ProviderError, trail: Trail) -> NextStep:
        if trail.reasked:
            return Escalate("invalid_output", error.message)
        if trail.calls >= self._max_attempts:
            return Fail("invalid_output", error.message)
        if trail.fits is not None and not trail.fits(failed, reask=True):
            return OverCap()
        trail.reasked = True
        return Call(failed, self._desk.insist(failed.name, trail.tokens), reask=True)

    def _within_budget(self, trail: Trail) -> NextStep:
        if trail.calls >= self._max_attempts:
            return Fail("all_deployments_failed", f"{trail.calls} calls were made: {_listed(trail)}")
        step = self.first(trail)
        if isinstance(step, OverCap) and any(map(trail.may_call, self._passed(trail))):
            # One of those that have failed may be back by then, and it has room.
            return Wait(self._due_s(trail))
        if not isinstance(step, Fail):
            return step
        classes = {error_class for _, error_class in trail.failures}
        if classes == {ErrorClass.AUTH}:
            return step
        if classes == {ErrorClass.REFUSED}:
            return Fail("refused", _listed(trail))
        return Wait(self._due_s(trail))

    def _passed(self, trail: Trail) -> list[Deployment]:
        return [one for one in self._deployments if one.name in trail.passed and meets(one, trail.require)]

    def _due_s(self, trail: Trail) -> float:
        """When a task whose every deployment has failed is due: once one has rested, or after a back-off."""
        rests = [self._desk.closed(one.name) for one in self._deployments if meets(one, trail.require)]
        if rests and all(rests):
            return min(RETRY_AFTER_CAP_S, *(rest.seconds for rest in rests if rest))
        return backoff_s(-(-trail.calls // len(self._deployments)))


def backoff_s(rounds: int) -> float:
    """Full jitter over an exponentially growing span (Brooker, «Exponential Backoff And Jitter», AWS, 2015)."""
    return random.uniform(0.1, min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(rounds, 10)))  # noqa: S311


def _listed(trail: Trail) -> str:
    return ", ".join(f"{deployment}: {error_class}" for deployment, error_class in trail.failures)
