"""Keeps a worker at what operators have set: it looks twice a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from tierq_shared.queues import Chunk
from tierq_shared.store import controls, schema
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import NOTHING_SET, Controls

log = logging.getLogger("tierq.worker")

LOOK_EVERY_S = 0.5
"""What is set must hold on every host within two seconds: this, and a sweep that rings what was put off."""

PUT_OFF_S = 600.0
"""When a chunk is looked at again that a pause holds back, should nobody end it."""

_LOOK_AT_TABLES_EVERY = 60
"""How many looks pass before it is seen whether the tables have been migrated."""


class Steering:
    """What is set now. ``on_change`` is told of the state before and after each change."""

    def __init__(
        self,
        store: Store,
        in_thread: Callable[..., Awaitable[Any]],
        on_change: Callable[[Controls, Controls], None],
    ) -> None:
        self._store = store
        self._in_thread = in_thread
        self._on_change = on_change
        self._looks = 0
        self.controls = NOTHING_SET

    def priority_of(self, chunk: Chunk) -> Chunk:
        """A chunk with the priority that its batch was given since it was published."""
        priority = self.controls.priorities.get(chunk.batch_id, chunk.priority)
        return chunk if priority == chunk.priority else replace(chunk, priority=priority)

    async def keep(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Looks once. While the store cannot be read, what was set last holds."""
        try:
            found = await self._in_thread(self._look)
            if found != self.controls:
                before, self.controls = self.controls, found
                self._on_change(before, found)
        except DBAPIError as error:
            log.warning("what operators have set could not be read (%s)", type(error.orig).__name__)

    def _look(self) -> Controls:
        self._looks += 1
        if self._looks % _LOOK_AT_TABLES_EVERY == 0:
            schema.check(self._store)
        return controls.current(self._store)
