"""What a report says, as plain values. Money is nano-USD, latencies are milliseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tierq_insight.report.scope import Scope
from tierq_shared.money import Rates
from tierq_shared.outcomes import AttemptOutcome, ErrorClass


@dataclass(frozen=True, slots=True)
class Sums:
    """Calls, and what they took."""

    calls: int = 0
    answers: int = 0
    """Those that succeeded."""
    cost_nusd: int = 0
    unpriced: int = 0
    """Ended calls whose cost is not known, and not in ``cost_nusd``."""
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.calls + other.calls,
            self.answers + other.answers,
            self.cost_nusd + other.cost_nusd,
            self.unpriced + other.unpriced,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """Calls that are alike in all that a report is split by."""

    time: str
    """The start of the day (or what ``Report.unit`` says) in UTC, as `2026-11-24`."""
    tier: str
    deployment: str
    model: str
    outcome: str
    type: str
    purpose: str
    """`work`; or `shadow` and `evaluation`, which measure how good answers are."""
    sums: Sums


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a split."""

    name: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the answers of a model took: percentiles by nearest rank.

    They are exact up to 10 s; longer ones are counted in steps of 0.1 s, rounded down: at most 1 % too low.
    """

    model: str
    answers: int
    p50_ms: int
    p95_ms: int
    p99_ms: int


@dataclass(frozen=True, slots=True)
class Move:
    """A task's call after another one of the same task."""

    kind: str
    """`failover`, `escalation`, `reask`, or `retry` on the same deployment."""
    from_tier: str
    from_deployment: str
    to_tier: str
    to_deployment: str
    why: str
    """The outcome of the call before."""
    calls: int


@dataclass(frozen=True, slots=True)
class DearPart:
    """Tasks of one kind and tier among the dearest."""

    type: str
    name: str
    tier: str
    tasks: int
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class Concentration:
    """The dearest 5 % of the tasks whose cost is known, and what they cost."""

    tasks: int
    cost_nusd: int
    dearest: int
    """How many they are, rounded up."""
    dearest_nusd: int
    parts: Sequence[DearPart]
    """What they are, the dearest first."""


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks that are alike in type, the tier they are on, state and origin."""

    type: str
    tier: str
    state: str
    is_cached: bool
    is_measuring: bool
    tasks: int
    charged: int
    """Those that had a call, and whose cost is known."""
    cost_nusd: int
    """Of these."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Answers given again for nothing."""

    hits: int
    spared_nusd: int
    """What the answers cost that were given again: what those tasks would have cost by the same way."""
    unpriced: int
    """Hits on answers of unknown cost."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The model that everything is compared with."""

    deployment: str
    model: str
    rates: Rates
    """For a short input: where longer ones are dearer there, the comparison errs against the saving."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Saving:
    """What was spent, beside what the baseline would have charged for the same answers."""

    baseline: Baseline
    answers: int
    """The tasks that were answered by a call of their own; only these cost anything at the baseline."""
    input_tokens: int
    output_tokens: int
    """Of the calls that gave those answers: what the baseline is assumed to have taken for them."""
    cost_nusd: int
    """Ours, everything charged."""
    baseline_nusd: int
    unpriced: int
    """Calls of unknown cost on our side; with any, the saving is an upper bound, and no more than that."""
    share: Interval | None
    """Of the part of the baseline's cost that was saved; None with too few tasks to say."""

    @property
    def saved_nusd(self) -> int:
        return self.baseline_nusd - self.cost_nusd

    @property
    def saved_share(self) -> float | None:
        """As a part of 1, below 0 where TierQ cost more; None where the baseline would have cost nothing."""
        return self.saved_nusd / self.baseline_nusd if self.baseline_nusd else None


@dataclass(frozen=True, slots=True)
class Judged:
    """How good a deployment's answers were found to be, by evaluations and shadows of all time."""

    deployment: str
    samples: int
    score: float
    """The mean, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class BreakerTimes:
    """How often and how long a deployment's circuit breaker was open, as far as the state Redis remembers."""

    deployment: str
    openings: int
    open_s: float
    rests: int
    """How often it rested because its quota was exhausted."""
    rest_s: float
    cuts: int
    """How often its rate was lowered because it was throttled."""
    is_open: bool
    """It was open or resting at the end of the time that the report is about."""

    @property
    def acted(self) -> bool:
        """Whether anything happened to it in that time."""
        return bool(self.openings or self.open_s or self.rests or self.rest_s or self.cuts)


@dataclass(frozen=True, slots=True)
class Quoted:
    """A batch's quote from before it ran, beside what it came to."""

    batch_id: str
    label: str | None
    low_nusd: int
    expected_nusd: int
    high_nusd: int
    actual_nusd: int | None
    """None until it is over, and where any of it is unpriced."""

    @property
    def error(self) -> float | None:
        """How far it was off, as a share of the actual cost: 0.05 where 5 % more was quoted than was spent."""
        return self.expected_nusd / self.actual_nusd - 1 if self.actual_nusd else None


@dataclass(frozen=True, slots=True)
class Report:
    """Where the money of one scope went. Everything is charged: failed, re-asked and escalated calls, shadows too."""

    scope: Scope
    made_at: datetime
    first: datetime | None
    """The first call; None where there is none."""
    last: datetime | None
    unit: str
    """What time is counted in: `minute`, `hour`, `day` or `month`."""
    cheapest_tier: str | None
    """The first tier of the configuration; None where none is configured."""
    cells: Sequence[Cell]
    tasks: Sequence[TaskGroup]
    latencies: Sequence[Latency]
    moves: Sequence[Move]
    concentration: Concentration
    cache: CacheUse
    saving: Saving | None
    no_saving: str
    """Why there is no comparison, where there is none."""
    judged: Sequence[Judged]
    breakers: Sequence[BreakerTimes] | None
    no_breakers: str
    """Why nothing is known of breakers, where that is so."""
    quotes: Sequence[Quoted]
    by: str
    lines: Sequence[Line]
    """The split that was asked for, the dearest first; days in their order."""

    @property
    def is_empty(self) -> bool:
        return not self.cells and not self.tasks

    @property
    def total(self) -> Sums:
        return self.sums(lambda _: True)

    def sums(self, which: Callable[[Cell], bool]) -> Sums:
        """Of the calls that are so."""
        return add_up(cell.sums for cell in self.cells if which(cell))

    def split(self, key: Callable[[Cell], str]) -> list[Line]:
        """By a key, the dearest first."""
        return split(self.cells, key)

    def tasks_that(self, which: Callable[[TaskGroup], bool]) -> int:
        """How many tasks are so, shadows and evaluations left out."""
        return sum(group.tasks for group in self.tasks if not group.is_measuring and which(group))

    def moves_of(self, kind: str) -> int:
        return sum(move.calls for move in self.moves if move.kind == kind)

    @property
    def states(self) -> Counter[str]:
        """Tasks by state, shadows and evaluations left out."""
        found: Counter[str] = Counter()
        for group in self.tasks:
            if not group.is_measuring:
                found[group.state] += group.tasks
        return found

    @property
    def simple_share(self) -> float | None:
        """The part of the tasks answered by a call of their own that ended on the cheapest tier."""
        answered = self.tasks_that(_is_answered)
        if not answered or self.cheapest_tier is None:
            return None
        return self.tasks_that(lambda group: _is_answered(group) and group.tier == self.cheapest_tier) / answered

    @property
    def answered_by_tier(self) -> dict[tuple[str, str], int]:
        """Tasks answered by a call of their own, by type and the tier that answered."""
        found: Counter[tuple[str, str]] = Counter()
        for group in self.tasks:
            if _is_answered(group) and not group.is_measuring:
                found[group.type, group.tier] += group.tasks
        return dict(found)

    @property
    def uses(self) -> list[Line]:
        """The whole cost by what it was spent on: each call under one heading."""
        found = {line.name: line for line in split(self.cells, use_of)}
        return [found[use] for use in USES if use in found]


USES = (
    "answers",
    "rejected answers",
    "unknown outcome",
    "throttled",
    "failed calls",
    "measuring quality",
    "under way",
)
"""What money is spent on."""

_THROTTLED = (ErrorClass.RATE_LIMITED, ErrorClass.QUOTA_EXHAUSTED)


def use_of(cell: Cell) -> str:
    """What a call was, for the account of uses."""
    if cell.outcome == AttemptOutcome.STARTED:
        return "under way"
    if cell.purpose != "work":
        return "measuring quality"
    if cell.outcome == AttemptOutcome.SUCCEEDED:
        return "answers"
    if cell.outcome == ErrorClass.INVALID_OUTPUT:
        return "rejected answers"
    if cell.outcome == AttemptOutcome.UNKNOWN:
        return "unknown outcome"
    return "throttled" if cell.outcome in _THROTTLED else "failed calls"


def add_up(found: Iterable[Sums]) -> Sums:
    return sum(found, Sums())


def split(cells: Iterable[Cell], key: Callable[[Cell], str]) -> list[Line]:
    """Cells by a key, the dearest first."""
    found: dict[str, Sums] = {}
    for cell in cells:
        name = key(cell)
        found[name] = found.get(name, Sums()) + cell.sums
    return dearest_first(found.items())


def dearest_first(found: Iterable[tuple[str, Sums]]) -> list[Line]:
    return [Line(*one) for one in sorted(found, key=lambda one: (-one[1].cost_nusd, -one[1].calls, one[0]))]


def _is_answered(group: TaskGroup) -> bool:
    return group.state == "succeeded" and not group.is_cached
