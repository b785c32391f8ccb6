"""Decides how many workers a tier has, by its true backlog, as a Kubernetes autoscaler would with the same figure."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.scaling.pool import Pool
from tierq_shared.store.backlog import ready_tasks
from tierq_shared.store.connection import Store


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wanted for which backlog."""

    per_worker: int
    """Ready tasks that one worker may have before it: KEDA's `targetQueryValue`."""
    most: int
    """Workers at most; at least there is one."""
    hold_s: float
    """A pool shrinks only to the most that was wanted within this span: `stabilizationWindowSeconds`."""


class Wanted:
    """How many workers are wanted: more at once, fewer when that has been so for a while."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._lately: deque[tuple[float, int]] = deque()

    def at(self, seconds: float, ready: int) -> int:
        """What is wanted at a moment, with this backlog."""
        now = min(max(math.ceil(ready / self._rule.per_worker), 1), self._rule.most)
        self._lately.append((seconds, now))
        while self._lately[0][0] < seconds - self._rule.hold_s:
            self._lately.popleft()
        return max(workers for _, workers in self._lately)


@dataclass(frozen=True, slots=True)
class Moment:
    """The tier, as the controller saw and left it."""

    at_s: float
    ready: int
    workers: int


class Controller:
    """Watches the backlog of one tier in SQL, and scales that tier's pool."""

    def __init__(self, store: Store, tier: str, pool: Pool, rule: Rule) -> None:
        self._store = store
        self._tier = tier
        self._pool = pool
        self._wanted = Wanted(rule)
        self._start = time.monotonic()
        self.began = datetime.now(UTC)
        self.moments: list[Moment] = []

    def step(self) -> Moment:
        """Looks once, and acts."""
        at_s = time.monotonic() - self._start
        with self._store.reading() as connection:
            ready = ready_tasks(connection, self._tier)
        self._pool.scale(self._wanted.at(at_s, ready))
        self.moments.append(Moment(at_s, ready, self._pool.size))
        return self.moments[-1]

    @property
    def sizes(self) -> list[int]:
        """The sizes that the pool had, one after the other."""
        sizes = [moment.workers for moment in self.moments]
        return [size for before, size in zip([0, *sizes], sizes, strict=False) if size != before]
