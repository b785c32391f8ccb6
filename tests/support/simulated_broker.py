"""A broker in memory: for each tier and priority a queue, first in, first out, which may lose messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tierq_shared.queues import BrokerDown, Chunk


@dataclass(frozen=True)
class Marker:
    """A marker on its way."""

    tier: str
    priority: int
    at: str


class SimulatedBroker:
    """Stands where the `Publisher` does. ``loses`` is asked for each chunk whether it gets lost."""

    def __init__(self, loses: Callable[[], bool] = lambda: False) -> None:
        self._loses = loses
        self.is_down = False
        self.queues: dict[tuple[str, int], list[Chunk | Marker]] = defaultdict(list)
        self.rung: Counter[str] = Counter()
        """How often each chunk was published."""
        self.lost: list[str] = []
        """Chunks whose message was lost, once for each loss."""
        self.markers: list[Marker] = []

    def publish(self, chunks: Iterable[Chunk]) -> None:
        self._check()
        for chunk in chunks:
            self.rung[chunk.id] += 1
            if self._loses():
                self.lost.append(chunk.id)
            else:
                self.queues[chunk.tier, chunk.priority].append(chunk)

    def publish_marker(self, tier: str, priority: int, at: str) -> None:
        self._check()
        self.markers.append(Marker(tier, priority, at))
        self.queues[tier, priority].append(self.markers[-1])

    def take(self, tier: str) -> Chunk | Marker | None:
        """The next message of a tier: of the highest priority, the oldest."""
        for place in sorted(self.queues, key=lambda place: -place[1]):
            if place[0] == tier and self.queues[place]:
                return self.queues[place].pop(0)
        return None

    def __len__(self) -> int:
        return sum(map(len, self.queues.values()))

    def _check(self) -> None:
        if self.is_down:
            raise BrokerDown("the broker does not answer")
