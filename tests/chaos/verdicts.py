"""Whether an installation stayed level: its first third after the warm-up against its last third."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from chaos.sampling import Sample

WARM_UP_S = 300.0
"""This much is left out at the start, but at most half: pools fill, caches and heaps grow to their size."""
MB_AN_HOUR = 10.0
NOISE_MB = 3.0
"""What a process may grow by in any time: its memory goes up and down with what is under way."""
LARGE_TABLE = 10_000
"""Rows from which on a scan of a table tells that an index is missing. A smaller one is read whole for good reasons."""


@dataclass(frozen=True)
class Verdict:
    """One promise, and what was measured."""

    promise: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Series:
    """One figure over time: seconds since the start, and its values."""

    at: list[float]
    values: list[float]

    @classmethod
    def of(cls, samples: Sequence[Sample], name: str) -> Series:
        found = [(sample["at"], sample[name]) for sample in samples if name in sample]
        return cls([at for at, _ in found], [value for _, value in found])

    def thirds(self) -> tuple[float, float, float]:
        """The medians of the first and the last third after the warm-up, and the hours between their middles."""
        at, values = self._warm()
        third = max(1, len(values) // 3)
        hours = (median(at[-third:]) - median(at[:third])) / 3600
        return median(values[:third]), median(values[-third:]), hours

    def rise(self) -> float:
        """How much a counter rose in the last third."""
        _, values = self._warm()
        return values[-1] - values[-1 - len(values) // 3]

    def _warm(self) -> tuple[list[float], list[float]]:
        start = min(bisect(self.at, WARM_UP_S), len(self.at) // 2)
        return self.at[start:], self.values[start:]


def memory(samples: Sequence[Sample], process: str) -> Verdict:
    first, last, hours = Series.of(samples, f"{process} rss_mb").thirds()
    grown = last - first
    slope = grown / hours if hours else 0.0
    said = f"{first:.0f} → {last:.0f} MB, {slope:+.0f} MB/hour"
    return Verdict(f"memory of {process} is level", said, grown <= max(NOISE_MB, MB_AN_HOUR * hours))


def connections(samples: Sequence[Sample], name: str, *, slack: float = 5.0) -> Verdict:
    """Level within a few: a pool gives up what was idle and takes it again. The workers' calls are in flight too."""
    first, last, _ = Series.of(samples, name).thirds()
    return Verdict(f"{name} are level", f"{first:.0f} → {last:.0f}", last <= 1.3 * first + slack)


def scans(samples: Sequence[Sample], table: str) -> Verdict:
    """No scan of a table that has grown."""
    times = Series.of(samples, f"{table} scans").rise()
    read = Series.of(samples, f"{table} scanned").rise()
    rows = read / times if times else 0.0
    said = f"{times:.0f} scans in the last third" + (f", of {rows:,.0f} rows each" if times else "")
    return Verdict(f"{table} is not scanned when it is large", said, rows < LARGE_TABLE)


def emptied(samples: Sequence[Sample], name: str, most: float) -> Verdict:
    last = Series.of(samples, name).values[-1]
    return Verdict(f"{name} is empty at the end", f"{last:.0f}", last <= most)


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A small picture from 0 to the largest value."""
    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    means = [sum(part) / len(part) for part in (values[start : start + size] for start in range(0, len(values), size))]
    top = max(means) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int(mean / top * len(_BARS)))] for mean in means)
