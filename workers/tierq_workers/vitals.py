"""How a worker process fares, as any thread of it can tell, also while its event loop stalls."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tierq_shared.settings import Settings

BEAT_S = 0.25

_LAG_BEATS = 60
"""How late the loop is, is looked back on for so many beats: about as long as scrapes are apart."""

MOST_SILENT_S = 2.0
"""An event loop that has not ticked for this long has stalled: calls time out, slots stand empty."""

_SILENT_SHARE = 0.5
"""Less than `MOST_SILENT_S` where so much of the lease is shorter."""

UNRENEWED_SHARE = 0.6
"""A lease of which so much is over has missed two renewals in a row, of which there are four a lease."""


class Phase(StrEnum):
    """Where a worker stands in its life."""

    STARTING = "starting"
    WORKING = "working"
    DRAINING = "draining"
    """It was told to stop: calls under way are finished, no other is begun."""


class Pulse:
    """Beats on the event loop, so that other threads see whether it ticks, and how late."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()
        self._late_s: deque[float] = deque([0.0], maxlen=_LAG_BEATS)

    async def keep(self) -> None:
        """Beats until it is cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            self._late_s.append(self.silent_s() - BEAT_S)
            self._beat_at = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._beat_at

    def lag_s(self) -> float:
        """The latest that a beat was in the last quarter of a minute, in seconds."""
        return max(0.0, self.silent_s() - BEAT_S, *self._late_s.copy())


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at a worker process."""

    tier: str
    phase: Phase
    settings: Settings
    """What it goes by now: SIGHUP may have changed it."""
    in_flight: int
    silent_s: float
    """Since the event loop last ticked."""
    lag_s: float
    lease_left_s: float
    """0 where it has none."""

    @property
    def slots(self) -> int:
        return self.settings.tiers[self.tier].max_in_flight

    @property
    def loop_ticks(self) -> bool:
        return self.silent_s < min(MOST_SILENT_S, _SILENT_SHARE * self.settings.worker.lease)

    @property
    def is_renewed(self) -> bool:
        """Whether there is a lease, and it is renewed as often as it should be."""
        return self.lease_left_s > (1 - UNRENEWED_SHARE) * self.settings.worker.lease

    @property
    def is_healthy(self) -> bool:
        return self.loop_ticks and self.is_renewed

    @property
    def is_ready(self) -> bool:
        """Healthy, and takes work on."""
        return self.is_healthy and self.phase is Phase.WORKING

    def json(self, *, is_well: bool) -> dict[str, Any]:
        """What a probe is told; spans in seconds."""
        return {
            "status": "ok" if is_well else "failing",
            "tier": self.tier,
            "phase": self.phase,
            "checks": {
                "loop": {"ok": self.loop_ticks, "silent_s": round(self.silent_s, 3)},
                "lease": {"ok": self.is_renewed, "left_s": round(self.lease_left_s, 3)},
            },
        }
