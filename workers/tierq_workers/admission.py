"""Slots and permits first, claims second: received chunks wait here, and what is free goes to the higher priority, then
the older."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tierq_shared.options import PRIORITY_BY_URGENCY
from tierq_shared.queues import Chunk
from tierq_shared.store.claims import Claims
from tierq_workers.chain import Room

LOOK_AGAIN_S = 0.25
"""Tasks that could not run are looked at again after this, and so is one that may be allowed what others are not."""

LONGEST_WAIT_S = 1.0
"""A chunk whose every task has to wait for longer is handed back at once."""

_LEAST_TO_KEEP_BACK = 10
"""Slots, below which none is kept back for interactive tasks: throughput would suffer."""


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
    """Ids that could not run when they were looked at, and stay queued."""
    look_at: float = 0.0
    """When it is worth looking again, whatever the first deployment allows."""

    @property
    def unclaimed(self) -> list[str]:
        return [*self.left, *self.waiting]

    def look_again(self, now: float) -> None:
        """Puts the ids that were left behind the others, when it is time."""
        if self.left and now >= self.look_at:
            self.waiting.extend(self.left)
            self.left = []


@dataclass(frozen=True, slots=True)
class Draw:
    """Ids to claim in one transaction, by the entry they came from."""

    entries: list[Entry]

    @property
    def ids(self) -> list[str]:
        return [id_ for entry in self.entries for id_ in entry.drawn]


class Admission:
    """The slots of one process, and the chunks that wait for them. Lives on the event loop; no locks.

    ``room`` says how many calls may begin, before any claim: a tier at its rate limit rewrites no rows.
    """

    def __init__(
        self,
        slots: int,
        wake: Callable[[], None],
        room: Callable[[], Room] = Room,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._kept_back = kept_back(slots)
        self._wake = wake
        self._room = room
        self._clock = clock
        self._in_use = 0
        self._order = itertools.count()
        self.entries: set[Entry] = set()

    def resize(self, slots: int) -> None:
        """Another number of slots from now on; those above it are free when their calls have ended."""
        self._slots, self._kept_back = slots, kept_back(slots)
        self._wake()

    def prioritise(self, effective: Callable[[Chunk], Chunk]) -> None:
        """Gives waiting chunks the priority that their batches have by now."""
        for entry in self.entries:
            entry.chunk = effective(entry.chunk)

    @property
    def in_use(self) -> int:
        return self._in_use

    @property
    def waiting(self) -> int:
        """Ids that wait for a slot or a permit."""
        return sum(len(entry.waiting) + len(entry.left) for entry in self.entries if not entry.closing)

    def enter(self, chunk: Chunk) -> Entry:
        """A chunk was received; its entry's ``done`` ends when no id of it needs a claim any more."""
        done = asyncio.get_running_loop().create_future()
        entry = Entry(chunk, deque(chunk.task_ids), done, next(self._order))
        entry.settled.set()
        self.entries.add(entry)
        self._wake()
        return entry

    def leave(self, entry: Entry) -> None:
        self.entries.discard(entry)

    def is_last_of(self, entry: Entry, receivers: int) -> bool:
        """Whether every receiver is held and this entry is the one whose turn comes last."""
        return len(self.entries) >= receivers and entry is max(self.entries, key=_turn)

    def draw(self) -> Draw:
        """As many ids as there are free slots and permits, by priority, then age. Their slots are taken from now on."""
        drawn: list[Entry] = []
        if not self.waiting or self._in_use >= self._slots:
            return Draw(drawn)
        room, now = self._room(), self._clock()
        first, some = room.first, room.some
        for entry in sorted(self.entries, key=_turn):
            entry.look_again(now)
            if entry.closing or entry.drawn or not entry.waiting:
                continue
            free = self._slots - self._in_use - (0 if _is_interactive(entry) else self._kept_back)
            count = min(len(entry.waiting), free, _allowed(entry, first, some, now))
            if count <= 0:
                continue
            entry.drawn = [entry.waiting.popleft() for _ in range(int(count))]
            self._in_use += len(entry.drawn)
            first, some = first - count, some - count
            entry.settled.clear()
            drawn.append(entry)
        return Draw(drawn)

    def settle(self, draw: Draw, claims: Claims) -> None:
        """A draw was claimed: slots of ids that need no run are free again, entries without waiting ids are done."""
        left, count = set(claims.left), len(draw.ids)
        for entry in draw.entries:
            still = [id_ for id_ in entry.drawn if id_ in left]
            if still:
                entry.left += still
                entry.look_at = self._clock() + min(claims.held.get(id_, LOOK_AGAIN_S) for id_ in still)
            entry.drawn = []
            entry.settled.set()
            # What a cap holds back for longer must not hold a receiver meanwhile.
            is_over = not entry.waiting and (not entry.left or self.wait_of(entry) > LONGEST_WAIT_S)
            if is_over and not entry.done.done():
                entry.done.set_result(None)
        self.release(count - len(claims.taken))

    def wait_of(self, entry: Entry) -> float:
        """Seconds until it is worth looking again at what is left of an entry."""
        return max(0.0, entry.look_at - self._clock()) if entry.left else 0.0

    def undo(self, draw: Draw) -> None:
        """A draw could not be claimed: its ids wait again, first in line."""
        count = len(draw.ids)
        for entry in draw.entries:
            entry.waiting.extendleft(reversed(entry.drawn))
            entry.drawn = []
            entry.settled.set()
        # Last, so that it wakes whoever draws: the ids wait again by now.
        self.release(count)

    def release(self, count: int = 1) -> None:
        """Slots are free again."""
        if count:
            self._in_use -= count
            if self.waiting:
                self._wake()

    def new_entries(self) -> Iterable[Entry]:
        return [entry for entry in self.entries if entry.is_new]


def kept_back(slots: int) -> int:
    """Slots that only interactive tasks may take: else they would wait for a call to end, which may take a minute."""
    return -(-slots // 100) if slots >= _LEAST_TO_KEEP_BACK else 0


def _is_interactive(entry: Entry) -> bool:
    return entry.chunk.priority >= PRIORITY_BY_URGENCY["interactive"]


def _turn(entry: Entry) -> tuple[int, int]:
    return -entry.chunk.priority, entry.order


def _allowed(entry: Entry, first: float, some: float, now: float) -> float:
    """How many ids of an entry are worth claiming: interactive tasks may take any deployment, others mostly the first.

    One that is not on the first is looked at now and then: it may have waited long enough, or need a later one.
    """
    if _is_interactive(entry):
        return some
    if first >= 1 or some < 1 or now < entry.look_at:
        return first
    entry.look_at = now + LOOK_AGAIN_S
    return 1
