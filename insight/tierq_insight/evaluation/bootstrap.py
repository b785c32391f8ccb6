"""95 % intervals of what is no plain mean of scores: ratios of sums, macro-F1, costs, percentiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, sqrt
from statistics import NormalDist

from tierq_insight.statistics import percentile
from tierq_shared.errors import MissingExtra
from tierq_shared.intervals import Interval

try:
    import numpy as np
    from numpy.typing import NDArray
except ModuleNotFoundError:
    raise MissingExtra("evaluations need numpy: pip install 'tierq[insight]'") from None

_TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - _TAIL)

_RESAMPLES = 2_000

_MANY = 500
"""From so many different rows on, a resample's sums are drawn from the normal distribution that they all but have (by
the central limit theorem): the draws then cost nothing more, however many rows there are."""

_SEED = 20_261_124
"""Fixed, so that the same evidence gives the same figures."""

Sums = NDArray[np.float64]


def interval_of_sums(rows: Sequence[Sequence[float]], statistic: Callable[[Sums], Sums]) -> Interval | None:
    """A statistic of the rows' sums with its percentile bootstrap interval; None of nothing.

    ``statistic`` takes sums, one resample a row, and gives a figure for each (Efron and Tibshirani, 1993). Of few rows,
    and where all are the same, the interval is too narrow: what was never seen is never drawn.
    """
    if not rows:
        return None
    distinct, counts = np.unique(np.asarray(rows, dtype=np.float64), axis=0, return_counts=True)
    value = float(statistic((counts @ distinct)[None, :])[0])
    lower, upper = np.quantile(statistic(_resampled(distinct, counts)), [_TAIL, 1 - _TAIL])
    return Interval(value, float(lower), float(upper), len(rows))


def _resampled(distinct: Sums, counts: NDArray[np.int64]) -> Sums:
    """The sums of rows drawn with replacement, a resample a row."""
    draw, size = np.random.default_rng(_SEED), int(counts.sum())
    if len(distinct) < _MANY:
        sums: Sums = draw.multinomial(size, counts / size, size=_RESAMPLES) @ distinct
        return sums
    spread = np.cov(distinct, rowvar=False, fweights=counts, bias=True) * size
    return draw.multivariate_normal(counts @ distinct, spread, size=_RESAMPLES, method="eigh")


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """A mean with its bootstrap interval."""
    return interval_of_sums([(one, 1.0) for one in values], ratio)


def ratio(sums: Sums) -> Sums:
    """The first sum over the second; 0 where there is nothing to divide by."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] > 0)


def mean_f1(sums: Sums) -> Sums:
    """Macro-F1 of triples of sums, one a label: right, expected, given. F1 is 2 right / (expected + given)."""
    right, sizes = sums[:, 0::3], sums[:, 1::3] + sums[:, 2::3]
    occurs = sizes > 0
    f1 = np.divide(2 * right, sizes, out=np.zeros_like(right), where=occurs)
    found: Sums = f1.sum(axis=1) / np.maximum(1, occurs.sum(axis=1))
    return found


def interval_of_percentile(values: Sequence[int], percent: int) -> Interval | None:
    """A percentile between the order statistics whose ranks bound it; None of nothing.

    The count of values below a percentile is binomial; its normal approximation gives the ranks (Conover, 1999).
    """
    if not values:
        return None
    ordered, count = sorted(values), len(values)
    share = percent / 100
    half = _Z * sqrt(count * share * (1 - share))
    lower, upper = (ordered[min(count - 1, max(0, floor(count * share + side)))] for side in (-half, half))
    return Interval(float(percentile(ordered, percent)), float(lower), float(upper), count)
