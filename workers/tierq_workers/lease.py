"""This incarnation's lease: renewed while the event loop ticks, given up before others may take its tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tierq_shared.ids import new_id
from tierq_shared.store import leases
from tierq_shared.store.connection import Store

log = logging.getLogger("tierq.worker")

RETRY_S = 1.0
"""How long to wait before a lease is asked for again while the store cannot be reached."""

RENEWALS_PER_LEASE = 4
FRESH_SHARE = 0.5
"""A lease of which more is over when it is there would end before its first renewal is safe."""

SAFETY_SHARE = 0.85
"""A worker that could not renew stops its calls when this much of its lease is over."""


class Lease:
    """The lease of one worker process, over its incarnations.

    ``on_lost`` cancels the calls under way. ``rest_s`` says how long the deployment chain rests.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        tier: str,
        release: str,
        seconds: float,
        on_lost: Callable[[], None],
        rest_s: Callable[[], float] = float,
    ) -> None:
        self._store = store
        self._executor = executor
        self._tier = tier
        self._release = release
        self._seconds = seconds
        self._on_lost = on_lost
        self._rest_s = rest_s
        self._renewed_at = 0.0
        self._replacing = asyncio.Lock()
        self.worker_id = ""

    async def begin(self) -> None:
        """Starts a new incarnation, once the store can be reached; what an earlier one had claimed is others' now."""
        while True:
            try:
                return await self._incarnate()
            except DBAPIError as error:
                log.warning("no lease could be taken (%s); trying again", type(error.orig).__name__)
                await asyncio.sleep(RETRY_S)

    async def _incarnate(self) -> None:
        while True:
            worker_id = new_id()
            asked_at = time.monotonic()
            await self._write(partial(self._register, worker_id=worker_id))
            # A store that hung meanwhile may have begun the lease long ago: this one would be over at once.
            if time.monotonic() < asked_at + self._seconds * FRESH_SHARE:
                break
        self.worker_id, self._renewed_at = worker_id, asked_at

    async def keep(self) -> None:
        """Renews the lease for as long as the event loop ticks; a lost one is followed by a new incarnation."""
        while True:
            # A store that refuses at once must not let the lease run beyond its safe share either.
            await asyncio.sleep(max(0.0, min(self._seconds / RENEWALS_PER_LEASE, self._safe_s())))
            if await self._renew():
                continue
            await self.replace()

    async def replace(self) -> None:
        """The lease is lost: cancels the calls and begins anew, once the store can be reached."""
        lost = self.worker_id
        async with self._replacing:
            # Whoever renews and whoever claims may both find it lost; a second incarnation would orphan the first's.
            if self.worker_id == lost:
                log.warning("the lease is over: calls under way are cancelled, their tasks go to other workers")
                self._on_lost()
                await self.begin()

    async def end(self) -> None:
        """This process stops; the sweeper need not wait for the lease."""
        await self._write(lambda connection: leases.stop_worker(connection, self.worker_id))

    def left_s(self) -> float:
        """For how long this worker is taken for alive without a renewal, in seconds; 0 where it never had a lease."""
        over = time.monotonic() - self._renewed_at
        return max(0.0, self._seconds - over) if self.worker_id else 0.0

    def _register(self, connection: Connection, worker_id: str) -> None:
        leases.register_worker(connection, worker_id, self._tier, self._release, self._seconds)

    async def _renew(self) -> bool:
        asked_at = time.monotonic()
        limit = self._safe_s()
        if limit <= 0:
            return False
        renewal = asyncio.ensure_future(
            self._write(partial(leases.renew, worker_id=self.worker_id, lease_s=self._seconds, rest_s=self._rest_s()))
        )
        try:
            # A store that hangs must not outlast the lease.
            async with asyncio.timeout(limit):
                renewed = await renewal
        except (DBAPIError, TimeoutError) as error:
            log.warning("the lease could not be renewed (%s)", type(error).__name__)
            return self._safe_s() > 0
        if renewed:
            self._renewed_at = asked_at
        return bool(renewed)

    def _safe_s(self) -> float:
        """For how long calls may still go on without a renewal, in seconds."""
        return self._renewed_at + self._seconds * SAFETY_SHARE - time.monotonic()

    async def _write(self, work: Callable[..., object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._store.write, work)
