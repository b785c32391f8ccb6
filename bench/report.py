"""Figures, and the page that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class Samples(list[float]):
    """What the repetitions of one figure measured."""

    @property
    def median(self) -> float:
        return statistics.median(self)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity, and the bar it has to reach where there is one."""

    name: str
    unit: str
    samples: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        low = self.at_least is not None and self.median < self.at_least
        high = self.at_most is not None and self.median > self.at_most
        return "missed" if low or high else "met"

    @property
    def bar(self) -> str:
        bars = [f"≥ {shown(self.at_least)}"] if self.at_least is not None else []
        bars += [f"≤ {shown(self.at_most)}"] if self.at_most is not None else []
        return f"{' and '.join(bars)} {self.unit}" if bars else "–"

    @property
    def measured(self) -> str:
        median = f"{shown(self.median)} {self.unit}"
        if len(self.samples) == 1:
            return median
        return f"{median} ({shown(min(self.samples))}–{shown(max(self.samples))})"


def shown(value: float) -> str:
    """Three digits that mean something, with thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def line(figure: Figure) -> str:
    """A figure on one line, for the terminal."""
    bar = f"  [bar {figure.bar}: {figure.verdict}]" if figure.verdict else ""
    note = f"  {figure.note}" if figure.note else ""
    return f"{figure.name}: {figure.measured}{bar}{note}"
