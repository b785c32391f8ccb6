"""A quote: low, expected and high cost and time, in all and by tier, as it is shown, kept and compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

import orjson

from tierq_shared.money import NANO

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Range(Generic[N]):
    """Four in five actual figures are meant to lie between ``low`` and ``high`` (the 10 % and 90 % points)."""

    low: N
    expected: N
    high: N


@dataclass(frozen=True, slots=True)
class TierQuote:
    """The tasks that the policy sends to one tier."""

    tasks: int
    unpriced_tasks: int
    """Those whose deployment has no known price: in no cost here."""
    cost_nusd: Range[int] | None
    """With re-asks, fail-overs and escalations, wherever they are charged; None where nothing is priced."""
    seconds: Range[float] | None
    """Until the last of them has ended; None where no chain is known."""
    deployment: str | None
    """The first of the chain that most of the tasks may use."""
    if_failed_over_nusd: int | None
    """The expected cost if that one were down all the while, on the dearest of the rest of its chain."""
    workers: int
    """Live ones; where there is none, the time is that of one worker."""
    backlog: int
    """Tasks that wait or run there already."""
    learned_calls: int
    """Calls in the ledger of these very kinds of task on this deployment."""

    @property
    def cost_usd(self) -> Range[Decimal] | None:
        return in_usd(self.cost_nusd)


@dataclass(frozen=True, slots=True)
class Quote:
    """What tasks will cost and how long they will take, made before anything is spent."""

    tasks: int
    unpriced_tasks: int
    """Those whose deployment has no known price: in no cost here."""
    cost_nusd: Range[int] | None
    """None where nothing is priced."""
    seconds: Range[float] | None
    tiers: dict[str, TierQuote]
    notes: tuple[str, ...] = field(default=())
    """What the figures leave out, and what they rest on, in words."""

    @property
    def cost_usd(self) -> Range[Decimal] | None:
        return in_usd(self.cost_nusd)

    def json(self) -> str:
        """As it is kept with its batch."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, document: str) -> Quote:
        content = orjson.loads(document)
        tiers = {name: TierQuote(**_with_ranges(tier)) for name, tier in content.pop("tiers").items()}
        return cls(**_with_ranges(content), tiers=tiers)

    def cost_error(self, actual_nusd: int) -> float | None:
        """How far the expected cost is off, as a share of the actual one; None where either is nothing.

        0.05 says that 5 % more was quoted than was spent, -0.05 that 5 % less was.
        """
        if self.cost_nusd is None or not actual_nusd:
            return None
        return self.cost_nusd.expected / actual_nusd - 1

    def time_error(self, actual_s: float) -> float | None:
        """The same for the time."""
        if self.seconds is None or not actual_s:
            return None
        return self.seconds.expected / actual_s - 1


def in_usd(nusd: Range[int] | None) -> Range[Decimal] | None:
    """Nano-USD as exact decimals of USD."""
    return None if nusd is None else Range(*(Decimal(one) / NANO for one in (nusd.low, nusd.expected, nusd.high)))


def _with_ranges(content: dict[str, Any]) -> dict[str, Any]:
    ranges = {name: Range(**content[name]) for name in ("cost_nusd", "seconds") if content[name] is not None}
    notes = {"notes": tuple(content["notes"])} if "notes" in content else {}
    return {**content, **ranges, **notes}
