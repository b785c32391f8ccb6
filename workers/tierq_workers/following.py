"""What a worker does every few seconds beside its tasks: it follows the active policy, and sends shadows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tierq_shared.active_policy import FRESH_S, ActivePolicy
from tierq_shared.queues import Chunk
from tierq_shared.settings import Settings
from tierq_shared.store import shadows
from tierq_shared.store.connection import Store
from tierq_shared.store.shadows import Answered
from tierq_workers.runtime import TierRuntime

log = logging.getLogger("tierq.worker")

_MOST_WAITING = 1_000
"""Samples that wait to be shadowed. While the store cannot be reached there is no use in gathering more."""


class Following:
    """Keeps a tier's runtime at the active policy. ``in_thread`` runs what blocks, ``publish`` rings for new chunks."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        runtime: TierRuntime,
        in_thread: Callable[..., Awaitable[Any]],
        publish: Callable[[list[Chunk]], None],
    ) -> None:
        self._store = store
        self._in_thread = in_thread
        self._publish = publish
        self._drawn: list[str] = []
        self.take_up(settings, runtime)

    def take_up(self, settings: Settings, runtime: TierRuntime) -> None:
        """Goes by this configuration from now on."""
        self._settings = settings
        self._runtime = runtime
        self._policies = ActivePolicy(settings, self._store, fresh_s=0.0)
        is_last = runtime.tier == settings.tier_names[-1]
        self._most_drawn = 0.0 if is_last else settings.shadow.largest_share

    async def refresh(self) -> None:
        """Goes by the policy that is active now. While the store cannot be read, the last one holds."""
        try:
            policy = await self._in_thread(self._policies.current)
        except DBAPIError as error:
            log.warning(
                "the active policy could not be read (%s); %s holds", _name(error), self._runtime.policy.version
            )
            return
        if policy is not self._runtime.policy:
            log.info("policy version %s is followed from now on", policy.version)
            self._runtime.follow(policy)

    async def keep(self) -> None:
        """Stays at the active policy and sends shadows, until it is cancelled."""
        while True:
            await asyncio.sleep(FRESH_S)
            await self.refresh()
            await self._send_shadows()

    def succeeded(self, task_id: str) -> None:
        """A task has its answer: it may be one of those that a higher tier repeats."""
        if self._most_drawn and len(self._drawn) < _MOST_WAITING and draw_of(task_id) < self._most_drawn:
            self._drawn.append(task_id)

    async def _send_shadows(self) -> None:
        drawn, self._drawn = self._drawn, []
        if not drawn:
            return
        try:
            chunks = await self._in_thread(self._store.write, partial(self._shadow, ids=drawn))
        except Exception as error:  # whatever it is, a sample that is not taken must not end the worker
            log.warning("%d tasks were not shadowed (%s)", len(drawn), _name(error))
            return
        if chunks:
            self._publish(chunks)

    def _shadow(self, connection: Connection, ids: list[str]) -> list[Chunk]:
        """One transaction. Runs in a thread."""
        found = [(task, self._tier_above(task)) for task in shadows.answered(connection, ids) if self._is_wanted(task)]
        pairs = [(task, tier) for task, tier in found if tier is not None]
        return shadows.insert_shadows(connection, pairs, self._runtime.policy.version)

    def _is_wanted(self, task: Answered) -> bool:
        return draw_of(task.id) < self._settings.shadow.share_of(task.type, task.name)

    def _tier_above(self, task: Answered) -> str | None:
        """The next tier up that may have the task by what it requires; its `max_tier` bounds the task, not this."""
        policy, require = self._runtime.policy, task.constraints.get("require", {})
        tier = policy.next_tier(task.tier)
        while tier is not None and not self._settings.serves(tier, require):
            tier = policy.next_tier(tier)
        return tier


def draw_of(task_id: str) -> float:
    """A number from 0 to 1 that is a task's own: the same on every host, whatever else it is used for."""
    return int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:8], "big") / 2**64


def _name(error: Exception) -> str:
    """An error's class, the driver's own where there is one; never its text, which quotes rows."""
    return type(getattr(error, "orig", None) or error).__name__
