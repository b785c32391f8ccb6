"""Keeps this process's permits up to date: asks Redis for all of them in one round trip, or decides without it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import redis

from tierq_workers.permits.deciders import Asks, LocalDecider, RedisDecider, Replies
from tierq_workers.permits.desk import Desk

log = logging.getLogger("tierq.worker")

TICK_S = 0.05
"""While there is work: the shortest time between two round trips."""
REFRESH_S = 1.0
"""While there is work: how old what this process knows of the others may become. What it meets itself it reports, and
hears of, within a tick."""
IDLE_S = 2.0
REDIS_AGAIN_S = 5.0
"""How often a Redis that is gone is tried again."""
COUNT_AGAIN_S = 10.0
"""How often the workers are counted, by whom the limits are divided without Redis."""


class Keeper:
    """Asks for permits and reports what became of them, for as long as the worker runs.

    ``waiting``: how many tasks wait for a permit or a slot. ``is_busy``: whether calls are under way.
    ``processes``: how many workers share the limits, asked when Redis is gone. ``on_change``: there may be new permits.
    """

    def __init__(
        self,
        desk: Desk,
        state_url: str | None,
        *,
        waiting: Callable[[], int],
        is_busy: Callable[[], bool],
        processes: Callable[[], Awaitable[int]],
        on_change: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._shared = RedisDecider(state_url) if state_url else None
        self._local = LocalDecider()
        self._waiting = waiting
        self._is_busy = is_busy
        self._processes = processes
        self._on_change = on_change
        self._awake = asyncio.Event()
        self._synced_at = 0.0
        self._redis_again_at = 0.0
        self._count_again_at = 0.0
        self._is_alone = False
        self._is_stopping = False

    def wake(self) -> None:
        """There is new work."""
        self._awake.set()

    def stop(self) -> None:
        """Ends `run` soon. Cancelling it is not enough: redis-py awaits by `asyncio.wait_for`, which in Python 3.11
        loses a cancellation that comes together with the answer."""
        self._is_stopping = True
        self._awake.set()

    async def run(self) -> None:
        """Keeps up, until it is stopped."""
        while not self._is_stopping:
            waiting = self._waiting()
            if self._is_due(waiting):
                await self.sync()
            if waiting:
                self._on_change()
            await self._pause()

    async def sync(self) -> None:
        """One round trip: reports and asks."""
        asks = self._desk.asks(self._waiting())
        replies = await self._decide(asks)
        self._desk.hear(asks, replies)
        self._synced_at = time.monotonic()
        for reply in replies["limits"]:
            if reply["given"] > 0 and reply["delay"] > 0:
                asyncio.get_running_loop().call_later(reply["delay"], self._on_change)

    async def aclose(self) -> None:
        """Reports what is left to report."""
        await self.sync()
        if self._shared is not None:
            await self._shared.aclose()

    def _is_due(self, waiting: int) -> bool:
        age = time.monotonic() - self._synced_at
        if self._desk.is_urgent(waiting):
            return True
        return age >= (REFRESH_S if waiting or self._is_busy() else IDLE_S)

    async def _pause(self) -> None:
        is_active = self._waiting() or self._is_busy()
        if is_active:
            await asyncio.sleep(TICK_S)
            return
        self._awake.clear()
        try:
            async with asyncio.timeout(IDLE_S):
                await self._awake.wait()
        except TimeoutError:
            pass

    async def _decide(self, asks: Asks) -> Replies:
        if self._shared is not None and time.monotonic() >= self._redis_again_at:
            try:
                replies = await self._shared.decide(asks)
            except redis.RedisError as error:
                self._lost(error)
            else:
                self._found()
                return replies
        if time.monotonic() >= self._count_again_at:
            self._local.processes = max(1, await self._processes())
            self._count_again_at = time.monotonic() + COUNT_AGAIN_S
        return await self._local.decide(asks)

    def _found(self) -> None:
        if self._is_alone:
            self._is_alone = False
            log.warning("the state Redis is back: limits and breakers are shared again")

    def _lost(self, error: redis.RedisError) -> None:
        self._redis_again_at = time.monotonic() + REDIS_AGAIN_S
        if not self._is_alone:
            self._is_alone = True
            log.warning(
                "the state Redis cannot be reached (%s): until it is back, limits and breakers are this process's own",
                type(error).__name__,
            )


async def let_go(keeper: Keeper, runs: set[asyncio.Task[None]]) -> None:
    """Reports what the calls of a former configuration came to, once they have ended."""
    if runs:
        await asyncio.wait(runs)
    keeper.stop()
    await keeper.aclose()
