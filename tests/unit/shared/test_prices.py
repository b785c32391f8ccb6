"""Prices: the user's own first, then the list, then none at all."""

from __future__ import annotations

from typing import Any

import pytest

from tierq_shared.deployments import Deployment, PriceOverlay
from tierq_shared.money import Usage
from tierq_shared.prices import PriceList


def deployment(provider: Any = "openai", model: str = "gpt-4o-mini", **fields: Any) -> Deployment:
    return Deployment(name="one", provider=provider, model=model, **fields)


def test_the_users_own_price_wins_over_the_list() -> None:
    rates = PriceList().rates(deployment(price=PriceOverlay(input=0.15, output=0.6, cached=0.075)))
    assert rates is not None
    assert (rates.input, rates.output, rates.cached) == (150_000_000, 600_000_000, 75_000_000)
    assert rates.cache_write == rates.input
    assert rates.version == "tierq.toml"


def test_a_price_that_binary_floats_cannot_hold_stays_exact() -> None:
    rates = PriceList().rates(deployment(price=PriceOverlay(input=0.1, output=0.3)))
    assert rates is not None
    assert rates.cost_nusd(Usage(input_tokens=3, output_tokens=0)) == 300


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5"), ("gemini", "gemini-2.5-flash")],
)
def test_listed_models_are_priced_and_say_by_which_list(provider: str, model: str) -> None:
    rates = PriceList().rates(deployment(provider, model))
    assert rates is not None
    assert 0 < rates.cached <= rates.input < rates.output
    assert rates.version.startswith("genai-prices ")


@pytest.mark.parametrize(("provider", "model"), [("openai", "no-such-model-1"), ("openai-compatible", "gpt-4o-mini")])
def test_an_unknown_price_is_none_and_never_zero(provider: str, model: str) -> None:
    fields = {"base_url": "http://localhost"} if provider == "openai-compatible" else {}
    prices, one = PriceList(), deployment(provider, model, **fields)
    assert prices.rates(one) is None
    assert prices.rates(one) is None
    assert PriceList.context_window(one) is None


def test_a_price_by_prompt_size_is_taken_by_the_calls_input() -> None:
    prices, one = PriceList(), deployment("gemini", "gemini-2.5-pro")
    at, above = prices.rates(one, input_tokens=200_000), prices.rates(one, input_tokens=200_001)
    assert at is not None
    assert above is not None
    assert above.input == 2 * at.input
    assert above.output > at.output
    assert prices.rates(one, input_tokens=5) == at


def test_a_deployments_own_window_wins_over_the_list() -> None:
    assert PriceList.context_window(deployment(context_window=9)) == 9
    assert (PriceList.context_window(deployment()) or 0) > 100_000
