"""The keeper's own life: it ends when it is told to, whatever Redis's client makes of a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tierq_shared.deployments import Deployment
from tierq_workers.permits.deciders import Asks, Decider, LocalDecider, Replies
from tierq_workers.permits.desk import Desk
from tierq_workers.permits.keeper import Keeper


class DeafDecider(Decider):
    """Loses the first cancellation, as `asyncio.wait_for` of Python 3.11 does when the answer comes with it."""

    def __init__(self) -> None:
        self._local = LocalDecider()
        self.asked = asyncio.Event()

    async def decide(self, asks: Asks) -> Replies:
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return await self._local.decide(asks)


async def one() -> int:
    return 1


async def test_it_stops_although_its_cancellation_is_lost() -> None:
    desk, deaf = Desk([Deployment(name="one", provider="openai", model="m")]), DeafDecider()
    keeper = Keeper(desk, None, waiting=lambda: 0, is_busy=lambda: False, processes=one, on_change=lambda: None)
    keeper._shared = deaf  # type: ignore[assignment]
    running = asyncio.create_task(keeper.run())
    await deaf.asked.wait()
    keeper.stop()
    running.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(running, return_exceptions=True)
