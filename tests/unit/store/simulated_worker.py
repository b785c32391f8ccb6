"""A worker process without its event loop: it makes the real recorder's transactions, in any order a test wants."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from support.simulated_broker import Marker, SimulatedBroker
from tierq_shared.caps import Cap
from tierq_shared.queues import BrokerDown, Chunk
from tierq_shared.store import sweeps
from tierq_shared.store.claims import Chooser, LeaseLost
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_workers.admission import Draw, Entry
from tierq_workers.recorder import Group, Recorder
from unit.store.installation import Installation, Taken, learn_nothing, new_attempt, step

LEASE_S = 30.0

NOTHING: Any = None
"""Stands for the event loop's parts of an entry and a recorder, which no transaction looks at."""


class SimulatedWorker:
    """Receives, claims, commits and publishes as the engine does, one call at a time."""

    def __init__(
        self, here: Installation, broker: SimulatedBroker, tier: str = "small", caps: Sequence[Cap] = ()
    ) -> None:
        self._here = here
        self._broker = broker
        self.tier = tier
        self.choose: Chooser = new_attempt
        self.entries: list[Entry] = []
        """Received chunks with ids that still need a claim."""
        self.runs: list[Taken] = []
        """Claims whose call is under way."""
        self._handed_back: list[tuple[str, float]] = []
        self._published: list[str] = []
        self._recorder = Recorder(
            here.store,
            NOTHING,
            tier,
            worker_id=lambda: self.id,
            learn=learn_nothing,
            choose=lambda task: self.choose(task),
            on_commit=NOTHING,
            on_lease_lost=NOTHING,
            caps=caps,
        )
        self.begin()

    def begin(self) -> None:
        """A new incarnation."""
        self.id = self._here.worker(self.tier, LEASE_S)

    def take(self, message: Chunk | Marker) -> None:
        """A message comes in."""
        if isinstance(message, Chunk):
            self.entries.append(Entry(message, deque(message.task_ids), NOTHING, len(self.entries)))
        else:
            at = datetime.fromisoformat(message.at)
            self._here.store.write(
                partial(sweeps.marker_received, tier=message.tier, priority=message.priority, published_at=at)
            )

    def commit(self, steps: Sequence[Step] = (), slots: int = 0, rest_s: float = 0.0) -> Group:
        """One group commit with claims for ``slots``; a chunk whose tasks cannot run now is due after ``rest_s``."""
        new = [entry for entry in self.entries if entry.is_new]
        draw, back, published = self._draw(slots), self._handed_back, self._published
        group = Group(list(steps), draw, [entry.chunk.id for entry in new], back, published)
        self._handed_back, self._published = [], []
        for entry in new:
            entry.is_new = False
        try:
            self.write(group)
        except LeaseLost:
            self._undo(group)
            self.begin()
            self.write(group)
        self._settle(group, rest_s)
        return group

    def write(self, group: Group) -> None:
        """A group's transaction; a second time as after a commit whose connection broke."""
        self._here.store.write(lambda connection: self._recorder._write(connection, group))

    def step(self, taken: Taken, next_: Ended | Requeued | NewAttempt, *, cost: int | None, outcome: str) -> Step:
        """What a call under way came to; it is no longer under way."""
        self.runs.remove(taken)
        return step(taken, next_, cost=cost, outcome=outcome)

    def go_on(self, one: Step, taken: Taken) -> None:
        """The further attempt of a step that counted."""
        following = cast(NewAttempt, one.next)
        self.runs.append((replace(taken[0], cost_nusd=one.cost_nusd), following))

    def hand_back(self, entry: Entry, after_s: float = 0.0) -> None:
        """What is left of a chunk goes back, as the engine's `_admit` does when it no longer holds it."""
        self.entries.remove(entry)
        if not entry.unclaimed:
            return
        self._handed_back.append((entry.chunk.id, after_s))
        if not after_s:
            self.publish([replace(entry.chunk, task_ids=entry.unclaimed)])

    def publish(self, chunks: Sequence[Chunk]) -> None:
        try:
            self._broker.publish(chunks)
        except BrokerDown:
            return
        self._published += [chunk.id for chunk in chunks]

    def _draw(self, slots: int) -> Draw:
        drawn = []
        for entry in self.entries:
            count = min(slots, len(entry.waiting))
            entry.drawn = [entry.waiting.popleft() for _ in range(count)]
            slots -= count
            drawn += [entry] if count else []
        return Draw(drawn)

    def _undo(self, group: Group) -> None:
        for entry in group.draw.entries:
            entry.waiting.extendleft(reversed(entry.drawn))
            entry.drawn = []
        group.draw, group.result = Draw([]), None

    def _settle(self, group: Group, rest_s: float) -> None:
        assert group.result is not None
        self.runs += group.result.claims.taken
        left = set(group.result.claims.left)
        for entry in group.draw.entries:
            entry.left += [id_ for id_ in entry.drawn if id_ in left]
            entry.drawn = []
            if not entry.waiting:
                self.hand_back(entry, rest_s if entry.left else 0.0)
        self.publish(group.result.committed.chunks)
