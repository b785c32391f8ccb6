"""What is held of a figure before and after looking: a value, how wrong it may be, how much single calls scatter."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

_SCATTER_WEIGHT = 5.0
"""How many calls the scatter that was assumed beforehand counts as: of a few calls none can be read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the ledger shows of a positive figure, such as the tokens of an answer."""

    calls: float
    mean: float
    scatter: float
    """The standard deviation of single calls, as a share of the mean."""


@dataclass(frozen=True, slots=True)
class Belief:
    """A positive figure that is not known exactly."""

    value: float
    doubt: float
    """The standard deviation of its logarithm: about the relative error that holds for all calls alike."""
    scatter: float
    """The relative standard deviation of single calls around it: evens out over many."""

    def after(self, sample: Sample | None, differs: float) -> Belief:
        """With a sample weighed in, each by the inverse of its variance (on the logarithms, as for any normal prior).

        ``differs``: the relative standard deviation by which the figure differs between what was sampled and what is
        asked about, however many calls were sampled.
        """
        if sample is None or sample.calls < 1 or sample.mean <= 0:
            return self
        squared = _SCATTER_WEIGHT * self.scatter**2 + sample.calls * sample.scatter**2
        scatter = sqrt(squared / (_SCATTER_WEIGHT + sample.calls))
        before = 1 / self.doubt**2
        weight = 1 / (scatter**2 / sample.calls + differs**2)
        value = exp((before * log(self.value) + weight * log(sample.mean)) / (before + weight))
        return Belief(value, 1 / sqrt(before + weight), scatter)


@dataclass(frozen=True, slots=True)
class Chance:
    """How often something happens, as the mean of a beta distribution that ``weight`` cases stand behind."""

    share: float
    weight: float

    @property
    def doubt(self) -> float:
        """Its standard deviation."""
        return sqrt(self.share * (1 - self.share) / (self.weight + 1))

    def after(self, happened: float, cases: float, weight: float | None = None) -> Chance:
        """With cases weighed in; the belief before them counts as ``weight`` cases, its own where None."""
        before = self.weight if weight is None else min(weight, self.weight)
        total = before + cases
        return Chance(min(1.0, (self.share * before + happened) / total), total)
