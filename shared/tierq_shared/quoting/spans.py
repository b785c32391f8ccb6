"""Makes time of tasks: how long the calls take on the workers that live, behind what waits there, within the limits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import exp, hypot

from tierq_shared.quoting.cells import Cell
from tierq_shared.quoting.costs import Z80, Call, CellCost
from tierq_shared.quoting.figures import Range
from tierq_shared.settings import Limit, Settings
from tierq_shared.store.backlog import TierBacklog

_WORKER_CALL_S = 0.0007
"""The worker's own time for a call: one process on one core ends about 1,200 to 1,800 tasks a second
(bench/README.md, «Throughput»)."""

_AROUND_S = 1.0
"""From the first task's submission to the first call, and from the last answer to the end of the batch: 0.1 s on a
machine with nothing else to do, 2 to 4 s measured on one that was busy ninefold."""

_AROUND_DOUBT = 0.35
"""What no latency tells of: other work on the machine, other users of the same limits, workers that come and go."""


@dataclass(slots=True)
class Load:
    """What a quote brings to one tier."""

    calls: float = 0.0
    busy_s: float = 0.0
    """Seconds of all calls together."""
    doubt_s: float = 0.0
    """The standard deviation of that, as far as all calls are wrong alike."""

    def add(self, calls: float, call: Call) -> None:
        latency = call.learned.latency_s
        self.calls += calls
        self.busy_s += calls * latency.value
        self.doubt_s += calls * latency.value * latency.doubt

    @property
    def latency_s(self) -> float:
        return self.busy_s / self.calls


class Spans:
    """Gathers what cells bring to tiers and limits."""

    def __init__(self, settings: Settings, backlog: dict[str, TierBacklog], least_workers: int = 0) -> None:
        self._settings = settings
        self._backlog = backlog
        self._least_workers = least_workers
        self._loads: dict[str, Load] = defaultdict(Load)
        self._limited: dict[str, tuple[float, float]] = {}

    def add(self, cell: Cell, found: CellCost) -> None:
        """A cell's calls, the share of them that escalates among them."""
        calls = [found.first, found.verification] if found.verification else [found.first]
        for call in calls:
            self._loads[cell.tier].add(cell.tasks * call.each, call)
            self._limit(cell.tasks * call.each, call)
        if found.next_tier is not None:
            # The latency of the tier below, for want of a better one: it is a small share.
            self._loads[found.next_tier].add(cell.tasks * found.escalated.share, found.first)

    def _limit(self, calls: float, call: Call) -> None:
        limit = call.deployment.limit
        if limit is not None:
            before, tokens = self._limited.get(limit, (0.0, 0.0))
            self._limited[limit] = (before + calls, tokens + call.tokens)

    def workers(self, tier: str) -> int:
        """Live ones."""
        found = self._backlog.get(tier)
        return max(found.workers if found else 0, self._least_workers)

    def backlog(self, tier: str) -> int:
        """Tasks that wait or run there already."""
        found = self._backlog.get(tier)
        return found.ready + found.waiting + found.running if found else 0

    def of(self, tier: str, limits: set[str]) -> Range[float]:
        """Seconds until the last task of a tier has ended. ``limits``: those that its calls draw on."""
        load, workers = self._loads[tier], max(1, self.workers(tier))
        slots = workers * self._settings.tiers[tier].max_in_flight
        calls = load.calls + self.backlog(tier)
        # The slots are full until the last calls begin; those take their time as well.
        flowing = max(calls * load.latency_s / slots, calls * _WORKER_CALL_S / workers) + load.latency_s + _AROUND_S
        doubt = hypot(load.doubt_s / load.busy_s, _AROUND_DOUBT)
        bound = max((self._limited_s(name) for name in limits), default=0.0)
        expected = max(flowing, bound)
        # No latency makes a limit wider.
        low = max(flowing * exp(-Z80 * doubt), bound)
        return Range(low, expected, max(expected, flowing * exp(Z80 * doubt), bound * exp(Z80 * _AROUND_DOUBT)))

    def _limited_s(self, name: str) -> float:
        """Seconds that all calls of the quote take under one limit."""
        limit: Limit = self._settings.limits[name]
        calls, tokens = self._limited[name]
        minutes = [calls / limit.rpm if limit.rpm else 0.0, tokens / limit.tpm if limit.tpm else 0.0]
        return max(minutes) * 60
