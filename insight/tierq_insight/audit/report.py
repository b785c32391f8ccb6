"""What an audit found, as values: how many calls of which kind could go where, and for how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tierq_insight.audit.counts import Source
from tierq_insight.audit.pricing import Band
from tierq_insight.audit.tagging import Confidence
from tierq_shared.specs import TaskType


@dataclass(frozen=True, slots=True)
class Priced:
    """One call's costs; None where they are not known."""

    now_nusd: int | None
    there: Band | None


@dataclass(slots=True)
class Spend:
    """Costs of calls, summed. What is unpriced is counted and not in the sums."""

    calls: int = 0
    now_nusd: int = 0
    now_unpriced: int = 0
    there: Band = field(default_factory=Band)
    there_unpriced: int = 0
    compared: int = 0
    """Calls that are priced on both sides: only they are compared."""
    compared_now_nusd: int = 0
    compared_there: Band = field(default_factory=Band)

    def add(self, one: Priced) -> None:
        self.calls += 1
        if one.now_nusd is None:
            self.now_unpriced += 1
        else:
            self.now_nusd += one.now_nusd
        if one.there is None:
            self.there_unpriced += 1
        else:
            self.there += one.there
        if one.now_nusd is not None and one.there is not None:
            self.compared += 1
            self.compared_now_nusd += one.now_nusd
            self.compared_there += one.there

    def __iadd__(self, other: Spend) -> Spend:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def saving(self) -> Band | None:
        """What could be saved on the calls that are compared, negative where they would cost more.

        Low is what is left where everything goes ill. None where no call is priced on both sides.
        """
        if not self.compared:
            return None
        now, there = self.compared_now_nusd, self.compared_there
        return Band(now - there.high, now - there.expected, now - there.low)


class LineKey(NamedTuple):
    """What the calls of a line have in common."""

    type: TaskType
    bucket: int | None
    """The upper bound of their input in tokens; None for what is larger than the largest."""
    tier: str


@dataclass(slots=True)
class Line:
    """Calls of one type and input bucket that the policy sends to one tier."""

    spend: Spend = field(default_factory=Spend)
    confidences: Counter[Confidence] = field(default_factory=Counter)
    signs: Counter[str] = field(default_factory=Counter)
    hard: int = 0
    """Calls with several signs of difficulty."""


class TagReason(NamedTuple):
    """Why calls have a tag."""

    type: TaskType
    confidence: Confidence
    reason: str


class RuleReason(NamedTuple):
    """Why the policy sends calls to a tier."""

    tier: str
    reason: str


@dataclass(slots=True)
class ModelToday:
    """The calls of today to one model."""

    calls: int = 0
    cost_nusd: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that could not be read. Never what stands in it."""

    line: int
    field: str | None
    reason: str

    def __str__(self) -> str:
        return f"field {self.field!r}: {self.reason}" if self.field else self.reason


@dataclass(slots=True)
class AuditReport:
    """All that an audit found."""

    priced_by: dict[str, str | None]
    """The tiers, cheapest first, each with the model whose price is taken; None where none is known."""
    policy_version: str
    unpriced_deployments: list[str]
    lines: dict[LineKey, Line] = field(default_factory=dict)
    tags: Counter[TagReason] = field(default_factory=Counter)
    rules: Counter[RuleReason] = field(default_factory=Counter)
    models: dict[str | None, ModelToday] = field(default_factory=dict)
    """By name; None where it is not known."""
    sources: Counter[Source] = field(default_factory=Counter)
    """Where the token counts are from, by calls."""
    batch_calls: int = 0
    """Calls of a Batch API: they are charged less than the list price that is counted here."""
    bad: int = 0
    findings: list[Finding] = field(default_factory=list)
    """The first rows that could not be read."""
    seconds: float = 0.0

    @property
    def tiers(self) -> list[str]:
        return list(self.priced_by)

    @property
    def top_tier(self) -> str:
        return self.tiers[-1]

    @property
    def total(self) -> Spend:
        return self.spend(lambda _key: True)

    def spend(self, holds: Callable[[LineKey], bool]) -> Spend:
        """The sum over the lines for which something holds."""
        found = Spend()
        for key, line in self.lines.items():
            if holds(key):
                found += line.spend
        return found

    def by_tier(self) -> list[tuple[str, Spend]]:
        """Every tier with what it would run, cheapest first."""
        return [(tier, self._on(tier)) for tier in self.tiers]

    def ordered(self) -> list[tuple[LineKey, Line]]:
        """The lines, by type, size and tier."""
        return sorted(self.lines.items(), key=lambda item: self._place(item[0]))

    def signs(self, tiers: Iterable[str]) -> Counter[str]:
        """The signs of difficulty of the calls that would go to these tiers."""
        names = set(tiers)
        return sum((line.signs for key, line in self.lines.items() if key.tier in names), Counter())

    def confidences(self) -> Counter[Confidence]:
        return sum((line.confidences for line in self.lines.values()), Counter())

    def _on(self, tier: str) -> Spend:
        return self.spend(lambda key: key.tier == tier)

    def _place(self, key: LineKey) -> tuple[str, float, int]:
        return key.type, float("inf") if key.bucket is None else key.bucket, self.tiers.index(key.tier)
