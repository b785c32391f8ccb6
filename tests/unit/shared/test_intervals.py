"""Wilson's interval, against published values and at its ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_shared.intervals import mean_interval


@pytest.mark.parametrize(
    ("right", "count", "lower", "upper"),
    # Agresti and Coull, The American Statistician 52 (1998); and the closed forms at the ends.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 2, 0.0945, 0.9055)],
)
def test_the_interval_is_wilsons(right: int, count: int, lower: float, upper: float) -> None:
    found = mean_interval([1.0] * right + [0.0] * (count - right))
    assert (found.samples, found.mean) == (count, right / count)
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=5e-5), pytest.approx(upper, abs=5e-5))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_the_interval_holds_the_mean_and_stays_within_bounds(scores: list[float]) -> None:
    found = mean_interval(scores)
    assert 0.0 <= found.lower <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.upper <= 1.0
