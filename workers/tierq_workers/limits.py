"""Which deployments of a chain may be called now, as this process knows it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class RestKind(Enum):
    """Why a deployment rests: it decides who may pass it by."""

    THROTTLED = auto()
    """A rate limit. Normal under load, so only urgent work takes a dearer deployment instead."""
    BROKEN = auto()
    """Quota, credentials: everybody takes the next deployment."""


@dataclass(frozen=True, slots=True)
class Rest:
    kind: RestKind
    until: float
    """By this process's monotonic clock; infinite where only another configuration can help."""


class Rests:
    """The deployments that rest. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests: dict[str, Rest] = {}

    def rest(self, deployment: str, kind: RestKind, seconds: float) -> None:
        """A deployment rests for a span, or longer where it already does."""
        until = self._clock() + seconds
        current = self._rests.get(deployment)
        if current is None or until > current.until:
            self._rests[deployment] = Rest(kind, until)

    def of(self, deployment: str) -> Rest | None:
        """A deployment's rest, or None where it may be called."""
        rest = self._rests.get(deployment)
        if rest is not None and rest.until <= self._clock():
            del self._rests[deployment]
            return None
        return rest

    def remaining_s(self, rest: Rest) -> float:
        return max(0.0, rest.until - self._clock())

    def is_for_good(self, deployment: str) -> bool:
        rest = self.of(deployment)
        return rest is not None and math.isinf(rest.until)
