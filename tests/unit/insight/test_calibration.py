"""The threshold that a calibration finds holds for samples it has not seen; where it cannot tell, it says so."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tierq_insight.calibration import (
    GRID,
    Calibration,
    Combination,
    Demand,
    Pair,
    Verdict,
    calibrate,
    combination,
    least_pairs,
)

CHEAP, HIGHER = 1_000, 20_000


def pair(confidence: float | None, cheap: float = 1.0, higher: float = 1.0, cost: int | None = CHEAP) -> Pair:
    return Pair(confidence, cheap, higher, cost, HIGHER)


def informative(count: int, seed: int) -> list[Pair]:
    """A cheap model that is right the more often, the surer it is; a higher one that is right in 97 of 100 cases."""
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        ease = dice.random()
        sure = min(1.0, max(0.0, 0.3 + 0.7 * ease + dice.gauss(0, 0.08)))
        found.append(pair(sure, float(dice.random() < 0.45 + 0.55 * ease**0.6), float(dice.random() < 0.97)))
    return found


def chosen(found: Calibration) -> Combination:
    assert found.chosen is not None
    return found.chosen


def test_the_combination_keeps_what_is_sure_and_charges_everything() -> None:
    pairs = [pair(0.9), pair(0.8, 0.0), pair(0.5, 0.0), pair(None, 0.0, 0.0)]
    both = combination(pairs, 0.8)
    assert both.kept.mean == 0.5
    assert both.quality.mean == 0.5, "right: the first, and the third by the higher tier"
    assert both.difference.mean == -0.25
    assert both.cost_nusd_per_1000 == (4 * CHEAP + 2 * HIGHER) * 1_000 / 4


def test_an_unknown_price_makes_the_cost_unknown() -> None:
    assert combination([pair(0.9), pair(0.2, cost=None)], 0.5).cost_nusd_per_1000 is None


def test_what_is_not_kept_adds_no_doubt() -> None:
    """400 pairs, 4 of them kept and all alike: the doubt is about shares of 400, not about the higher tier's errors."""
    dice = random.Random(1)
    pairs = [pair(0.1, 0.0, float(dice.random() < 0.6)) for _ in range(396)] + [pair(0.99)] * 4
    assert combination(pairs, 0.9).difference.lower > -0.01
    assert combination(pairs, 0.0).difference.lower < -0.5


def test_it_finds_the_lowest_threshold_that_clears() -> None:
    pairs = informative(2_000, seed=7)
    found = calibrate(pairs, Demand(margin=0.02))
    assert found.verdict is Verdict.FOUND
    best = chosen(found)
    assert best.difference.lower >= -0.02
    below = [one for one in (combination(pairs, threshold) for threshold in GRID) if one.kept.mean > best.kept.mean]
    assert below[0].difference.lower < -0.02, "the next lower one fails"
    assert best.cost_nusd_per_1000 == round((2_000 * CHEAP + round(2_000 * (1 - best.kept.mean)) * HIGHER) / 2)


def test_between_confidences_it_takes_the_strictest_threshold() -> None:
    """Nothing was seen between 0.4 and 0.9, so nothing is promised there."""
    pairs = [pair(0.9)] * 500 + [pair(0.4, 0.0)] * 500
    assert chosen(calibrate(pairs, Demand())).threshold == 0.9


@pytest.mark.parametrize("demand", [Demand(margin=0.02), Demand(quality=0.93)], ids=str)
def test_out_of_sample_it_fails_no_more_often_than_it_says(demand: Demand) -> None:
    """The truth is a population of 100,000; 2.5 % of calibrations may miss it, and of 80 that is 2, give or take."""
    runs = [calibrate(informative(250, seed), demand) for seed in range(100, 180)]
    thresholds = [run.chosen.threshold for run in runs if run.chosen]
    assert len(thresholds) > 40, "it finds one more often than not"
    everyone = informative(100_000, seed=1)
    good = {threshold: _clears_in_truth(everyone, threshold, demand) for threshold in set(thresholds)}
    # Binomial(80, 0.025): more than 6 come once in 250 times.
    assert sum(not good[threshold] for threshold in thresholds) <= 6


def _clears_in_truth(everyone: list[Pair], threshold: float, demand: Demand) -> bool:
    total = sum(one.cheap if (one.confidence or 0) >= threshold else one.higher for one in everyone)
    wanted = 0.97 - demand.margin if demand.quality is None else demand.quality
    return total / len(everyone) >= wanted


def test_a_confidence_that_says_nothing_keeps_nothing() -> None:
    dice = random.Random(3)
    pairs = [pair(dice.random(), float(dice.random() < 0.7)) for _ in range(2_000)]
    found = calibrate(pairs, Demand())
    assert found.chosen is None or found.chosen.kept.mean < 0.05


def test_the_search_stops_at_the_first_that_fails() -> None:
    """A lower threshold that would clear again by chance is not taken: that would be choosing the luckiest."""
    pairs = [pair(0.95)] * 300 + [pair(0.9, 0.0)] * 40 + [pair(0.5, 1.0, 0.0)] * 400
    assert combination(pairs, 0.5).difference.lower >= -0.02
    assert chosen(calibrate(pairs, Demand(margin=0.02))).threshold == 0.95


def test_too_little_data_is_an_answer() -> None:
    needed = least_pairs(0.01)
    short = calibrate([pair(0.9)] * (needed - 1), Demand())
    assert (short.verdict, short.chosen) == (Verdict.TOO_LITTLE_DATA, None)
    assert f"fewer than {needed:,} pairs" in short.why
    assert calibrate([pair(0.9)] * needed, Demand()).verdict is Verdict.FOUND
    assert calibrate([], Demand()).verdict is Verdict.TOO_LITTLE_DATA
    assert calibrate([pair(None)] * 500, Demand()).why == "no cheap answer has a confidence"
    one_off = [pair(0.9)] * (needed - 1) + [pair(0.9, 0.0)]
    assert calibrate(one_off, Demand()).verdict is Verdict.TOO_LITTLE_DATA
    few = calibrate([pair(0.9)] * 20, Demand(quality=0.95))
    assert (few.verdict, "too few" in few.why) == (Verdict.TOO_LITTLE_DATA, True)


def test_cheap_answers_that_are_worse_are_not_kept() -> None:
    worse = [pair(0.99, float(number % 2)) for number in range(1_000)]
    assert calibrate(worse, Demand()).verdict is Verdict.NOT_GOOD_ENOUGH
    assert calibrate(worse, Demand(quality=0.9)).verdict is Verdict.NOT_GOOD_ENOUGH
    weak = [pair(0.99, 0.5, 0.5)] * 1_000
    assert "the higher tier alone has a quality of 0.500" in calibrate(weak, Demand(quality=0.9)).why


def test_a_cascade_that_saves_nothing_is_not_recommended() -> None:
    """Three samples of a cheap model can cost more than one call of the dear one."""
    dear = [replace(pair(0.9) if number % 2 else pair(0.1, 0.0), cheap_nusd=HIGHER) for number in range(800)]
    found = calibrate(dear, Demand())
    assert found.verdict is Verdict.SAVES_NOTHING
    assert chosen(found).cost_nusd_per_1000 == 1_500 * HIGHER


def test_partial_scores_count_in_part() -> None:
    pairs = [pair(0.9, 0.8, 0.8)] * 400 + [pair(0.2, 0.1, 0.8)] * 400
    found = calibrate(pairs, Demand(margin=0.02))
    assert chosen(found).threshold == 0.9
    assert chosen(found).quality.mean == pytest.approx(0.8)
