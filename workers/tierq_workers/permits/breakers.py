"""One deployment's circuit breaker as this process knows it: open or closed, the one probe, rests and reports."""

from __future__ import annotations

import math
from enum import Enum, auto

from tierq_workers.permits.deciders import BreakerAsk, BreakerReply

WANTED_S = 1.0
"""An open breaker that no task has met for this long is not probed."""

UNUSED_S = 2.0
"""A probe that no task has made by then is another process's to make."""


class Probe(Enum):
    """The one call that shows whether an open deployment is back."""

    NONE = auto()
    GRANTED = auto()
    UNDER_WAY = auto()


class Breaker:
    """The breaker of one deployment. Times are this process's monotonic clock, spans are seconds."""

    def __init__(self, key: str, holder: str, probe_s: float) -> None:
        self._key = key
        # Lua reads what looks like a number as one, and an id of hex digits may.
        self._holder = f"worker {holder}"
        self._probe_s = probe_s
        self._is_open = False
        self._open_until = 0.0
        self._probe = Probe.NONE
        self._probe_since = 0.0
        self._resting_until = 0.0
        self._wanted_until = 0.0
        self._ok = self._failed = 0
        self._probe_result = ""
        self._rest = 0.0

    @property
    def is_for_good(self) -> bool:
        """Whether nothing but another configuration helps."""
        return math.isinf(self._resting_until)

    def want(self, now: float) -> None:
        """A task would call it: a probe is worth asking for."""
        self._wanted_until = now + WANTED_S

    @property
    def is_probing(self) -> bool:
        """Whether one call may be made, to see whether it is back."""
        return self._probe is Probe.GRANTED

    def closed_for(self, now: float) -> float:
        """Seconds until a call may be tried; 0 where one may be now, the probe among them."""
        if self._resting_until > now:
            return self._resting_until - now
        if not self._is_open or self._probe is Probe.GRANTED:
            return 0.0
        # Beyond its time it waits for a probe, this process's or another's.
        return max(self._open_until - now, WANTED_S)

    def enter(self, now: float) -> bool:
        """A call begins; whether it is the probe."""
        if self._probe is not Probe.GRANTED:
            return False
        self._probe, self._probe_since = Probe.UNDER_WAY, now
        return True

    def ended(self, *, is_probe: bool, failed: bool | None) -> None:
        """A call has ended; ``failed`` is None where it says nothing about the deployment."""
        if is_probe:
            self._probe = Probe.NONE
            self._probe_result = "none" if failed is None else "failed" if failed else "ok"
        elif failed is not None:
            self._failed += failed
            self._ok += not failed

    def rest(self, seconds: float, now: float) -> None:
        """Nobody calls it for a span; for good where it is infinite, which stays in this process."""
        self._resting_until = max(self._resting_until, now + seconds)
        if not math.isinf(seconds):
            self._rest = max(self._rest, seconds)

    def ask(self, now: float) -> BreakerAsk:
        """What to report, and whether to ask for the probe."""
        self._drop_stale_probe(now)
        ask: BreakerAsk = {
            "key": self._key,
            "holder": self._holder,
            "ok": self._ok,
            "failed": self._failed,
            "wants_probe": self._wants_probe(now),
            "probe_s": self._probe_s,
            "probe_result": self._probe_result,
            "rest": self._rest,
        }
        self._ok = self._failed = 0
        self._probe_result, self._rest = "", 0.0
        return ask

    def hear(self, reply: BreakerReply, now: float) -> None:
        """The answer to what was asked."""
        self._is_open = reply["open"]
        self._open_until = now + reply["delay"]
        self._resting_until = max(self._resting_until, now + reply["rest"])
        if reply["probe"]:
            self._probe, self._probe_since = Probe.GRANTED, now
        elif not self._is_open and self._probe is Probe.GRANTED:
            self._probe = Probe.NONE

    def is_urgent(self, now: float) -> bool:
        """Whether the others should hear of it at once."""
        return bool(self._failed or self._probe_result or self._rest) or self._wants_probe(now)

    def _drop_stale_probe(self, now: float) -> None:
        """A probe that nobody made goes back; one whose claim was never committed has no end to wait for."""
        age = now - self._probe_since
        if self._probe is Probe.GRANTED and age > UNUSED_S:
            self._probe, self._probe_result = Probe.NONE, "none"
        elif self._probe is Probe.UNDER_WAY and age > self._probe_s:
            self._probe = Probe.NONE

    def _wants_probe(self, now: float) -> bool:
        wanted = now <= self._wanted_until and now >= max(self._open_until, self._resting_until)
        return self._is_open and wanted and self._probe is Probe.NONE and not self._probe_result
