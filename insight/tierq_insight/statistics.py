"""What can be said of a mean from few samples: intervals that hold their coverage, and percentiles.

All scores lie between 0 and 1. All intervals are two-sided ones of 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from tierq_shared.intervals import Z_95, Interval, mean_interval


def difference_interval(scores: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean of ``scores[i] - others[i]`` over answers to the same samples.

    Newcombe's method 10 for paired shares (Newcombe 1998, Statistics in Medicine 17, 2635), which is the recovery of
    the difference's variance from the two intervals and the correlation (Zou and Donner 2008); so it holds for scores
    between 0 and 1 too. Unlike the t interval it does not collapse where few pairs differ.

    Raises:
        ValueError: there are no pairs, or the two are not of one length.
    """
    first, second = mean_interval(scores), mean_interval(others)
    correlation = _correlation(scores, others)
    below, above = first.mean - first.lower, second.upper - second.mean
    lower = sqrt(max(0.0, below**2 - 2 * correlation * below * above + above**2))
    below, above = second.mean - second.lower, first.upper - first.mean
    upper = sqrt(max(0.0, above**2 - 2 * correlation * above * below + below**2))
    difference = first.mean - second.mean
    return Interval(difference, max(-1.0, difference - lower), min(1.0, difference + upper), first.samples)


def large_sample_interval(differences: Sequence[float]) -> Interval:
    """The normal interval of a mean, for hundreds of values or more."""
    count = len(differences)
    mean = sum(differences) / count
    variance = sum((one - mean) ** 2 for one in differences) / max(1, count - 1)
    half = Z_95 * sqrt(variance / count)
    return Interval(mean, mean - half, mean + half, count)


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile: the smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def _correlation(scores: Sequence[float], others: Sequence[float]) -> float:
    """Pearson's, and a little less where it is positive: Newcombe's correction, which keeps the coverage at small n."""
    count = len(scores)
    mean, other_mean = sum(scores) / count, sum(others) / count
    pairs = list(zip(scores, others, strict=True))
    covariance = sum((one - mean) * (other - other_mean) for one, other in pairs) / count
    spread = sqrt(sum((one - mean) ** 2 for one in scores) * sum((one - other_mean) ** 2 for one in others)) / count
    if covariance > 0:
        covariance = max(0.0, covariance - 1 / (2 * count))
    return covariance / spread if spread else 0.0
