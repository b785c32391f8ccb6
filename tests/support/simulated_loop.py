"""An event loop whose time is a simulated clock's: a sleep takes no time, and the store's clock goes along."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from support.simulated_clock import SimulatedClock


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Where nothing is left to do now, the clock moves to what is due next."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._simulated, self._began_at = clock, clock.now
        super().__init__(_Waiting(clock))

    def time(self) -> float:
        # Counted from 0: a float of seconds since 1970 is too coarse for the loop's comparisons.
        return (self._simulated.now - self._began_at).total_seconds()


class _Waiting(selectors.DefaultSelector):
    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        assert timeout is not None, "everything waits for something that never comes"
        self._clock.advance(max(timeout, 0.001))  # the store's clock has no finer grain
        return []


def run(clock: SimulatedClock, work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end, in simulated time."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        runner.run(work)
