"""Finds the threshold of a cascade: how sure a cheap answer must be, so that keeping it costs no quality that matters.

From pairs: the cheap tier's answer to a sample with its confidence, and the higher tier's answer to the same sample.
The combination keeps the cheap answer where its confidence reaches the threshold, and has the higher one elsewhere.

**The same samples choose the threshold and vouch for it**, which would be too kind if the best of many were picked.
So it is chosen by fixed-sequence testing (Maurer, Hothorn and Lehmacher 1995; for thresholds Angelopoulos, Bates,
Candès, Jordan and Lei, «Learn then Test», 2021): the thresholds are a grid that was fixed before any sample was seen,
looked at from the strictest down, each by the lower end of its 95 % interval, and the search stops at the first that
fails. The chance that the one it ends at is not good enough is then that of a single threshold, 2.5 % as far as the
interval keeps its word, and no sample is set aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from math import ceil

from tierq_insight.statistics import difference_interval
from tierq_shared.intervals import Interval, mean_interval

GRID = (1.0, 0.999, 0.998, 0.995, *(round(1 - step / 100, 2) for step in range(1, 101)))
"""The thresholds that are tried, strictest first."""

DEFAULT_MARGIN = 0.01
"""How much worse than the higher tier alone the combination may be, where no quality is named."""

_Z2 = 1.959963984540054**2


@dataclass(frozen=True, slots=True)
class Pair:
    """Both tiers' answers to one sample. Scores are from 0 to 1, and 0 for a call that failed."""

    confidence: float | None
    """None where it was not measured, or the cheap tier gave no valid answer: then it is never kept."""
    cheap: float
    higher: float
    cheap_nusd: int | None
    """Everything charged for the cheap answer, samples and verdicts among it; None where any of it is unpriced."""
    higher_nusd: int | None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the combination has to clear with the lower end of its 95 % interval: a quality, or a margin."""

    quality: float | None = None
    """A mean score; None asks for no worse than the higher tier alone."""
    margin: float = DEFAULT_MARGIN

    def __str__(self) -> str:
        if self.quality is not None:
            return f"a quality of {self.quality:g}"
        return f"no more than {self.margin:g} worse than the higher tier alone"


@dataclass(frozen=True, slots=True)
class Combination:
    """Both tiers together at one threshold."""

    threshold: float
    kept: Interval
    """The share of cheap answers that are kept."""
    quality: Interval
    difference: Interval
    """In quality, to the higher tier alone."""
    cost_nusd_per_1000: int | None
    """Every call of both tiers charged; None where any is unpriced."""


class Verdict(StrEnum):
    """What came of a calibration."""

    FOUND = "found"
    TOO_LITTLE_DATA = "too_little_data"
    NOT_GOOD_ENOUGH = "not_good_enough"
    """There is data enough, and no threshold clears what is demanded."""
    SAVES_NOTHING = "saves_nothing"
    """A threshold clears it, and the cheap answers cost more than they save."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold that a cascade may use, or why there is none."""

    verdict: Verdict
    why: str
    pairs: int
    chosen: Combination | None
    """Where the verdict is `found` or `saves_nothing`."""
    cheap: Interval | None
    """The quality of the cheap tier alone; None without pairs."""
    higher: Interval | None
    """The same of the higher one."""
    cheap_nusd_per_1000: int | None
    higher_nusd_per_1000: int | None


def calibrate(pairs: Sequence[Pair], demand: Demand) -> Calibration:
    """The lowest threshold at which the combination clears what is demanded, with what it costs.

    Lower thresholds are also the cheaper ones: each keeps what the stricter ones keep.
    """
    verdict, why, chosen = _verdict(pairs, demand)
    return Calibration(
        verdict,
        why,
        len(pairs),
        chosen,
        mean_interval([pair.cheap for pair in pairs]) if pairs else None,
        mean_interval([pair.higher for pair in pairs]) if pairs else None,
        _per_1000([pair.cheap_nusd for pair in pairs]),
        _per_1000([pair.higher_nusd for pair in pairs]),
    )


def combination(pairs: Sequence[Pair], threshold: float) -> Combination:
    """Both tiers together at a threshold, over at least one pair."""
    kept = [pair.confidence is not None and pair.confidence >= threshold for pair in pairs]
    scores = [pair.cheap if keep else pair.higher for pair, keep in zip(pairs, kept, strict=True)]
    costs = [
        pair.cheap_nusd if keep else _sum(pair.cheap_nusd, pair.higher_nusd)
        for pair, keep in zip(pairs, kept, strict=True)
    ]
    return Combination(
        threshold,
        mean_interval([float(keep) for keep in kept]),
        mean_interval(scores),
        _difference(scores, [pair.higher for pair in pairs]),
        _per_1000(costs),
    )


def least_pairs(margin: float) -> int:
    """Fewer pairs than these clear no margin, even where not one kept answer is worse (Wilson's upper end of 0)."""
    return ceil(_Z2 * (1 - margin) / margin) if margin > 0 else 0


def _verdict(pairs: Sequence[Pair], demand: Demand) -> tuple[Verdict, str, Combination | None]:
    if not any(pair.confidence is not None for pair in pairs):
        return Verdict.TOO_LITTLE_DATA, "no cheap answer has a confidence", None
    chosen = _lowest(pairs, demand)
    if chosen is None:
        return *_why_none(pairs, demand), None
    alone = _per_1000([pair.higher_nusd for pair in pairs])
    if chosen.cost_nusd_per_1000 is not None and alone is not None and chosen.cost_nusd_per_1000 >= alone:
        return Verdict.SAVES_NOTHING, "with every call charged it costs no less than the higher tier alone", chosen
    return Verdict.FOUND, f"cleared: {demand}", chosen


def _lowest(pairs: Sequence[Pair], demand: Demand) -> Combination | None:
    """Where the sequence of thresholds ends; None where the first that keeps an answer fails.

    Of thresholds that keep the same answers it is the strictest: nothing is known of confidences in between.
    """
    tried = (combination(pairs, threshold) for threshold in _thresholds(pairs))
    return max(takewhile(lambda one: _clears(one, demand), tried), key=lambda one: one.kept.mean, default=None)


def _thresholds(pairs: Sequence[Pair]) -> Iterator[float]:
    """Those of the grid that keep more than the one before: the others would only be looked at twice."""
    kept = 0
    for threshold in GRID:
        keeps = sum(pair.confidence is not None and pair.confidence >= threshold for pair in pairs)
        if keeps > kept:
            kept = keeps
            yield threshold


def _clears(one: Combination, demand: Demand) -> bool:
    if demand.quality is not None:
        return one.quality.lower >= demand.quality
    return one.difference.lower >= -demand.margin


def _why_none(pairs: Sequence[Pair], demand: Demand) -> tuple[Verdict, str]:
    """Why no threshold clears: too few pairs to tell, or what they tell."""
    strictest = combination(pairs, next(_thresholds(pairs)))
    if demand.quality is None:
        needed = least_pairs(demand.margin)
        if len(pairs) < needed:
            return Verdict.TOO_LITTLE_DATA, f"{demand} cannot be shown by fewer than {needed:,} pairs"
        if strictest.difference.mean >= -demand.margin:
            return Verdict.TOO_LITTLE_DATA, f"the pairs may mean {demand}, and are too few to show it"
        return Verdict.NOT_GOOD_ENOUGH, "even the surest of the cheap answers are worse than that"
    higher = mean_interval([pair.higher for pair in pairs])
    if higher.mean < demand.quality:
        return Verdict.NOT_GOOD_ENOUGH, f"the higher tier alone has a quality of {higher.mean:.3f} here"
    if strictest.quality.mean >= demand.quality:
        return Verdict.TOO_LITTLE_DATA, f"the pairs may mean {demand}, and are too few to show it"
    return Verdict.NOT_GOOD_ENOUGH, "even with the surest of the cheap answers alone it falls below that"


def _difference(scores: Sequence[float], higher: Sequence[float]) -> Interval:
    """The mean difference to the higher tier alone.

    As the difference of two shares, what is gained and what is lost. Answers that were not kept are the higher tier's
    own: they are neither, for certain, and add no doubt, which the interval of two whole qualities would not know.
    """
    gains = [max(0.0, one - other) for one, other in zip(scores, higher, strict=True)]
    losses = [max(0.0, other - one) for one, other in zip(scores, higher, strict=True)]
    return difference_interval(gains, losses)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _per_1000(costs: Sequence[int | None]) -> int | None:
    known = [cost for cost in costs if cost is not None]
    return round(sum(known) * 1_000 / len(known)) if known and len(known) == len(costs) else None
