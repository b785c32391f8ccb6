"""Intervals: known values, and how often they hold the truth, by simulation."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_insight.statistics import difference_interval, large_sample_interval, percentile
from tierq_shared.intervals import mean_interval

unit = st.floats(0, 1)


@pytest.mark.parametrize(
    ("right", "wrong", "lower", "upper"),
    [
        # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3.
        (81, 182, 0.2553, 0.3662),
        (15, 133, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 28, 0.0061, 0.1718),
    ],
)
def test_the_mean_of_zeros_and_ones_is_wilsons(right: int, wrong: int, lower: float, upper: float) -> None:
    found = mean_interval([1.0] * right + [0.0] * wrong)
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=5e-5), pytest.approx(upper, abs=5e-5))
    assert found.samples == right + wrong


@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "lower", "upper"),
    [
        # Newcombe (1998), Improved confidence intervals for the difference between binomial proportions based on
        # paired data, table II, method 10.
        (36, 12, 2, 0, 0.0569, 0.3404),
        (54, 0, 0, 0, -0.0664, 0.0664),
    ],
)
def test_the_paired_difference_is_newcombes(
    both: int, first: int, second: int, neither: int, lower: float, upper: float
) -> None:
    scores = [1.0] * both + [1.0] * first + [0.0] * second + [0.0] * neither
    others = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    found = difference_interval(scores, others)
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=2e-4), pytest.approx(upper, abs=2e-4))


def test_nothing_can_be_said_of_no_scores() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least one"):
        difference_interval([], [])


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=40))
def test_an_interval_holds_its_mean_and_stays_on_the_scale(pairs: list[tuple[float, float]]) -> None:
    scores, others = [one for one, _ in pairs], [other for _, other in pairs]
    mean = mean_interval(scores)
    assert 0 <= mean.lower <= mean.mean <= mean.upper <= 1
    difference = difference_interval(scores, others)
    assert -1 <= difference.lower <= difference.mean <= difference.upper <= 1
    back = difference_interval(others, scores)
    assert (back.lower, back.upper) == (pytest.approx(-difference.upper), pytest.approx(-difference.lower))


def share_held(draw: Callable[[], tuple[float, float]], truth: float, runs: int = 1_500) -> float:
    held = 0
    for _ in range(runs):
        lower, upper = draw()
        held += lower <= truth <= upper
    return held / runs


@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize("quality", [0.5, 0.8, 0.95])
def test_coverage_of_a_share(count: int, quality: float) -> None:
    rng = random.Random(f"{count} {quality}")

    def draw() -> tuple[float, float]:
        found = mean_interval([float(rng.random() < quality) for _ in range(count)])
        return found.lower, found.upper

    assert share_held(draw, quality) >= 0.90  # Wilson's dips under 0.95 at single points, never far


@pytest.mark.parametrize("count", [10, 30])
def test_coverage_of_scores_in_between(count: int) -> None:
    """Most answers are whole, some half right: where a t interval of few samples falls short."""
    rng = random.Random(count)

    def draw() -> tuple[float, float]:
        found = mean_interval([1.0 if rng.random() < 0.9 else rng.random() / 2 for _ in range(count)])
        return found.lower, found.upper

    assert share_held(draw, 0.9 + 0.1 * 0.25) >= 0.95


@pytest.mark.parametrize("count", [20, 50])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_coverage_of_a_paired_difference(count: int, shared: float) -> None:
    """Two deployments of 0.9 and 0.8 that fail together more or less often."""
    rng = random.Random(f"{count} {shared}")

    def pair() -> tuple[float, float]:
        one = rng.random()
        other = one if rng.random() < shared else rng.random()
        return float(one < 0.9), float(other < 0.8)

    def draw() -> tuple[float, float]:
        pairs = [pair() for _ in range(count)]
        found = difference_interval([one for one, _ in pairs], [other for _, other in pairs])
        return found.lower, found.upper

    assert share_held(draw, 0.1) >= 0.93


def test_the_interval_of_many_values() -> None:
    found = large_sample_interval([0.0, 1.0] * 200)
    assert found.mean == 0.5
    assert found.upper - found.mean == pytest.approx(1.96 * 0.5 / 20, rel=0.01)


@given(st.lists(st.integers(0, 1_000), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_that_enough_values_do_not_exceed(values: list[int], percent: int) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)
