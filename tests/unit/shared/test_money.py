"""Money: exact integers of nano-USD, checked against Decimal."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_shared.money import NANO, Rates, Usage, nano_rate, show_usd, usd

COUNTS = st.integers(0, 10_000_000)
PRICES = st.decimals(0, 1_000, places=9)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    plain, cached, written, output = (draw(COUNTS) for _ in range(4))
    return Usage(plain + cached + written, cached, written, output, draw(st.integers(0, output)))


@given(usages(), PRICES, PRICES, PRICES, PRICES)
def test_a_cost_is_the_exact_sum_rounded_once(
    usage: Usage, input_: Decimal, output: Decimal, cached: Decimal, cache_write: Decimal
) -> None:
    rates = Rates(nano_rate(input_), nano_rate(output), nano_rate(cached), nano_rate(cache_write), "v")
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    with localcontext(prec=60):
        dollars = (
            plain * input_
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * cache_write
            + usage.output_tokens * output
        ) / 1_000_000
        expected = int((dollars * NANO).to_integral_value(ROUND_HALF_UP))
    cost = rates.cost_nusd(usage)
    assert type(cost) is int
    assert cost == expected


@pytest.mark.parametrize(("rate", "cost"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_half_a_nano_is_rounded_up(rate: int, cost: int) -> None:
    assert Rates(rate, 0, 0, 0, "v").cost_nusd(Usage(input_tokens=1)) == cost


def test_reasoning_is_charged_as_output_and_only_once() -> None:
    rates = Rates(0, NANO, 0, 0, "v")
    assert rates.cost_nusd(Usage(output_tokens=1_000_000, reasoning_tokens=900_000)) == NANO


def test_more_cached_than_counted_is_never_a_negative_cost() -> None:
    rates = Rates(NANO, 0, 0, 0, "v")
    assert rates.cost_nusd(Usage(input_tokens=5, cached_tokens=9)) == 0


@given(usages(), usages(), usages())
def test_usages_add_up_in_any_order(one: Usage, two: Usage, three: Usage) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Usage() == one
    assert (one + two).total_tokens == one.total_tokens + two.total_tokens


@given(st.integers(-(10**18), 10**18))
def test_dollars_are_exact(nusd: int) -> None:
    dollars = usd(nusd)
    assert isinstance(dollars, Decimal)
    assert dollars * NANO == nusd


def test_an_unknown_cost_is_never_zero() -> None:
    assert usd(None) is None
    assert usd(0) == 0
    assert show_usd(None) == "unpriced"


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [
        (0, "$0.000000"),
        (1_234, "$0.000001"),
        (9_999_000, "$0.009999"),
        (10_000_000, "$0.0100"),
        (1_234_567_890, "$1.2346"),
        (100 * NANO, "$100.00"),
        (12_345 * NANO, "$12345.00"),
    ],
)
def test_costs_for_people_have_the_digits_that_matter(nusd: int, shown: str) -> None:
    assert show_usd(nusd) == shown


@pytest.mark.parametrize(("price", "rate"), [("0.15", 150_000_000), ("0", 0), ("75", 75 * NANO), ("0.000000001", 1)])
def test_a_list_price_is_a_whole_rate(price: str, rate: int) -> None:
    assert nano_rate(Decimal(price)) == rate
