"""Slots first, claims second: received chunks wait here, and free slots go to the higher priority, then the older."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tierq_shared.queues import Chunk
from tierq_shared.store.claims import Claims


@dataclass(eq=False, slots=True)
class Entry:
    """A received chunk, and which of its ids still need a claim."""

    chunk: Chunk
    waiting: deque[str]
    done: asyncio.Future[None]
    order: int
    is_new: bool = True
    """The store has not heard of its receipt."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no claim of it is under way."""
    closing: bool = False
    """Nothing more is drawn from it: what is left is about to be handed back."""
    drawn: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Ids that cannot run now and stay queued."""

    @property
    def unclaimed(self) -> list[str]:
        return [*self.left, *self.waiting]


@dataclass(frozen=True, slots=True)
class Draw:
    """Ids to claim in one transaction, by the entry they came from."""

    entries: list[Entry]

    @property
    def ids(self) -> list[str]:
        return [id_ for entry in self.entries for id_ in entry.drawn]


class Admission:
    """The slots of one process, and the chunks that wait for them. Lives on the event loop; no locks."""

    def __init__(self, slots: int, wake: Callable[[], None]) -> None:
        self._slots = slots
        self._wake = wake
        self._in_use = 0
        self._heap: list[tuple[int, int, int, Entry]] = []
        self._order = itertools.count()
        self.entries: set[Entry] = set()

    @property
    def in_use(self) -> int:
        return self._in_use

    def enter(self, chunk: Chunk) -> Entry:
        """A chunk was received; its entry's ``done`` ends when no id of it needs a claim any more."""
        done = asyncio.get_running_loop().create_future()
        entry = Entry(chunk, deque(chunk.task_ids), done, next(self._order))
        entry.settled.set()
        self.entries.add(entry)
        self._push(entry)
        self._wake()
        return entry

    def leave(self, entry: Entry) -> None:
        self.entries.discard(entry)

    def is_last_of(self, entry: Entry, receivers: int) -> bool:
        """Whether every receiver is held and this entry is the one whose turn comes last."""
        if len(self.entries) < receivers:
            return False
        return entry is min(self.entries, key=lambda one: (one.chunk.priority, -one.order))

    def draw(self) -> Draw:
        """As many ids as there are free slots, by priority, then age. Their slots are taken from here on."""
        drawn = []
        while self._heap and self._in_use < self._slots:
            entry = self._heap[0][3]
            if entry.closing or not entry.waiting:
                heapq.heappop(self._heap)
                continue
            count = min(len(entry.waiting), self._slots - self._in_use)
            entry.drawn = [entry.waiting.popleft() for _ in range(count)]
            self._in_use += count
            entry.settled.clear()
            drawn.append(entry)
            if entry.waiting:
                break
        return Draw(drawn)

    def settle(self, draw: Draw, claims: Claims) -> None:
        """A draw was claimed: slots of ids that need no run are free again, entries without waiting ids are done."""
        left = set(claims.left)
        self.release(len(draw.ids) - len(claims.taken))
        for entry in draw.entries:
            entry.left += [id_ for id_ in entry.drawn if id_ in left]
            entry.drawn = []
            entry.settled.set()
            if not entry.waiting and not entry.done.done():
                entry.done.set_result(None)

    def undo(self, draw: Draw) -> None:
        """A draw could not be claimed: its ids wait again, first in line."""
        count = len(draw.ids)
        for entry in draw.entries:
            entry.waiting.extendleft(reversed(entry.drawn))
            entry.drawn = []
            entry.settled.set()
            self._push(entry)
        # Last, so that it wakes whoever draws: the ids wait again by now.
        self.release(count)

    def _push(self, entry: Entry) -> None:
        # The last number breaks ties: an entry may stand here twice, and entries have no order of their own.
        heapq.heappush(self._heap, (-entry.chunk.priority, entry.order, next(self._order), entry))

    def release(self, count: int = 1) -> None:
        """Slots are free again."""
        if count:
            self._in_use -= count
            if self._heap:
                self._wake()

    def new_entries(self) -> Iterable[Entry]:
        return [entry for entry in self.entries if entry.is_new]
