"""Makes quotes: of tasks that were added up, by the configuration, the prices and what the ledger teaches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tierq_shared.prices import PriceList
from tierq_shared.quoting.cells import Cell, Tally
from tierq_shared.quoting.costs import CellCost, Cost, Costs
from tierq_shared.quoting.figures import Quote, Range, TierQuote
from tierq_shared.quoting.history import History
from tierq_shared.quoting.spans import Spans
from tierq_shared.settings import Settings
from tierq_shared.store.backlog import TierBacklog, backlog
from tierq_shared.store.connection import Store

LEARNED_FOR_S = 10.0
"""How long what was read from the ledger is good for."""


@dataclass(slots=True)
class _Tier:
    """What the cells of one tier come to."""

    cost: Cost = field(default_factory=Cost)
    if_failed_over: Cost = field(default_factory=Cost)
    has_other: bool = False
    tasks: int = 0
    unpriced: int = 0
    learned: dict[str | None, int] = field(default_factory=dict)
    """Calls by spec."""
    without_deployment: int = 0
    firsts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    limits: set[str] = field(default_factory=set)
    unpriced_names: set[str] = field(default_factory=set)

    def add(self, cell: Cell, found: CellCost | None) -> None:
        self.tasks += cell.tasks
        if found is None:
            self.unpriced += cell.tasks
            self.without_deployment += cell.tasks
            return
        first = found.first
        self.firsts[first.deployment.name] += cell.tasks
        called = [first, found.verification] if found.verification else [first]
        self.limits |= {call.deployment.limit for call in called if call.deployment.limit}
        self.unpriced_names |= set(found.unpriced)
        self.learned[cell.spec_id] = first.learned.calls
        if found.cost is None:
            self.unpriced += cell.tasks
            return
        self.cost += found.cost
        self.has_other = self.has_other or found.if_failed_over is not None
        self.if_failed_over += found.if_failed_over or found.cost

    @property
    def first(self) -> str | None:
        """The deployment that most of its tasks begin on."""
        return max(self.firsts, key=lambda name: self.firsts[name], default=None)


class Quoter:
    """Quotes tallies. ``store`` is None where there is nothing yet to learn from."""

    def __init__(self, settings: Settings, store: Store | None, prices: PriceList | None = None) -> None:
        self._settings = settings
        self._store = store
        self._prices = prices or PriceList()
        self._history = History()
        self._read_at = float("-inf")

    def quote(self, tally: Tally, *, least_workers: int = 0) -> Quote:
        """What the tasks will cost and how long they will take.

        ``least_workers``: how many workers each tier will have anyway, where the caller is about to start them.

        Raises:
            MissingExtra: a price has to be looked up, and the price list is not installed.
        """
        history = self._learned()
        spans = Spans(self._settings, self._waiting(), least_workers)
        costs = Costs(self._settings, self._prices, history)
        tiers: dict[str, _Tier] = {}
        for cell in tally.cells.values():
            found = costs.of(cell)
            tiers.setdefault(cell.tier, _Tier()).add(cell, found)
            if found is not None:
                spans.add(cell, found)
        names = sorted(tiers, key=self._settings.tier_names.index)
        return _quote({name: tiers[name] for name in names}, spans, history)

    def _learned(self) -> History:
        if self._store is not None and time.monotonic() - self._read_at > LEARNED_FOR_S:
            self._history = History.read(self._store)
            self._read_at = time.monotonic()
        return self._history

    def _waiting(self) -> dict[str, TierBacklog]:
        if self._store is None:
            return {}
        with self._store.reading() as connection:
            return backlog(connection)


def _quote(tiers: dict[str, _Tier], spans: Spans, history: History) -> Quote:
    quoted = {name: _tier_quote(name, tier, spans) for name, tier in tiers.items()}
    tasks, unpriced = sum(tier.tasks for tier in tiers.values()), sum(tier.unpriced for tier in tiers.values())
    whole = sum((tier.cost for tier in tiers.values()), Cost())
    return Quote(
        tasks=tasks,
        unpriced_tasks=unpriced,
        cost_nusd=None if tasks and unpriced == tasks else whole.range(),
        seconds=_longest([tier.seconds for tier in quoted.values()]),
        tiers=quoted,
        notes=tuple(_notes(tiers, quoted, history)),
    )


def _tier_quote(name: str, tier: _Tier, spans: Spans) -> TierQuote:
    is_priced = tier.unpriced < tier.tasks
    return TierQuote(
        tasks=tier.tasks,
        unpriced_tasks=tier.unpriced,
        cost_nusd=tier.cost.range() if is_priced else None,
        seconds=spans.of(name, tier.limits) if tier.firsts else None,
        deployment=tier.first,
        if_failed_over_nusd=round(tier.if_failed_over.mean) if is_priced and tier.has_other else None,
        workers=spans.workers(name),
        backlog=spans.backlog(name),
        learned_calls=sum(tier.learned.values()),
    )


def _longest(spans: list[Range[float] | None]) -> Range[float] | None:
    """Tiers work side by side: the slowest says when all is done. None where the time of any is not known."""
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return None
    return Range(*(max((getattr(one, end) for one in known), default=0.0) for end in ("low", "expected", "high")))


def _notes(tiers: dict[str, _Tier], quoted: dict[str, TierQuote], history: History) -> Iterable[str]:
    """What the figures leave out, and where they rest on little."""
    unpriced = sorted({name for tier in tiers.values() for name in tier.unpriced_names})
    if unpriced:
        yield (
            f"no price is known for {', '.join(unpriced)}: what it would charge is in no figure here; "
            "give it a price in tierq.toml"
        )
    if any(tier.without_deployment for tier in tiers.values()):
        yield "this configuration names no deployment for some tasks: they are neither priced nor timed"
    for name, tier in quoted.items():
        if tier.seconds is not None and not tier.workers:
            yield f"no live worker serves tier {name!r}: the time is that of one worker, once it is there"
    if not history.calls:
        yield "the ledger is empty: these are rules of thumb, and the first run makes them better"
    else:
        yield from (
            f"no call in the ledger is like those of tier {name!r}: its figures are guessed from other calls"
            for name, tier in quoted.items()
            if not tier.learned_calls and tier.deployment
        )
