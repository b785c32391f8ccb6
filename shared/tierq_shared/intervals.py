"""What can be said of a mean of scores from 0 to 1: a two-sided interval of 95 % that holds with few samples too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    lower: float
    upper: float
    samples: int


def mean_interval(scores: Sequence[float]) -> Interval:
    """Wilson's score interval for the mean of scores from 0 to 1.

    For scores of 0 and 1 it is the interval for a share (Wilson 1927) that keeps close to its coverage down to a
    handful of samples, also where every score is the same (Brown, Cai and DasGupta 2001). Of all variables in [0, 1]
    with a mean m, none has a greater variance than the 0/1 one, m(1-m) (Bhatia and Davis 2000): so for scores in
    between it is too wide, never too narrow.

    Raises:
        ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("an interval needs at least one score")
    count = len(scores)
    mean = sum(scores) / count
    spread = Z_95**2 / count
    centre = (mean + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * sqrt(max(0.0, mean * (1 - mean)) / count + spread / (4 * count))
    # At the ends rounding would leave the mean outside its own interval.
    return Interval(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), count)
