"""Prices and context windows: the user's overlay, else the list in `genai-prices`, else unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from tierq_shared.deployments import Deployment
from tierq_shared.errors import MissingExtra
from tierq_shared.money import Rates, nano_rate

_LIST_IDS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
"""The providers' names in the price list."""

Tiered = Any
"""The list's prices are decimals, or tables by prompt size."""


class PriceList:
    """Looks deployments up, once each."""

    def __init__(self) -> None:
        self._rates: dict[str, Rates | None] = {}

    def rates(self, deployment: Deployment, *, input_tokens: int = 0) -> Rates | None:
        """What a deployment charges for a call with this much input; None where no price is known."""
        tier = _size_tier(deployment, input_tokens)
        slot = f"{deployment.name}/{tier}"
        if slot not in self._rates:
            self._rates[slot] = _overlay(deployment) or _listed(deployment, tier)
        return self._rates[slot]

    @staticmethod
    def context_window(deployment: Deployment) -> int | None:
        """Tokens of input and output together that a deployment takes; None where nobody said."""
        if deployment.context_window is not None:
            return deployment.context_window
        model = _find(deployment.provider, deployment.model)
        return model.context_window if model else None


def _overlay(deployment: Deployment) -> Rates | None:
    price = deployment.price
    if price is None:
        return None
    plain = nano_rate(Decimal(str(price.input)))
    return Rates(
        input=plain,
        output=nano_rate(Decimal(str(price.output))),
        cached=plain if price.cached is None else nano_rate(Decimal(str(price.cached))),
        cache_write=plain if price.cache_write is None else nano_rate(Decimal(str(price.cache_write))),
        version="tierq.toml",
    )


def _listed(deployment: Deployment, input_tokens: int) -> Rates | None:
    prices = _prices(deployment)
    if prices is None or prices.input_mtok is None or prices.output_mtok is None:
        return None
    plain = _at_size(prices.input_mtok, input_tokens)
    cached, write = prices.cache_read_mtok, prices.cache_write_mtok
    return Rates(
        input=nano_rate(plain),
        output=nano_rate(_at_size(prices.output_mtok, input_tokens)),
        # Where the list knows no price of its own, cached tokens are charged as plain ones: never as nothing.
        cached=nano_rate(plain if cached is None else _at_size(cached, input_tokens)),
        cache_write=nano_rate(plain if write is None else _at_size(write, input_tokens)),
        version=f"genai-prices {version('genai-prices')}",
    )


def _size_tier(deployment: Deployment, input_tokens: int) -> int:
    """The start of the price tier that an input of this size falls in; 0 where the price does not depend on it."""
    prices = None if deployment.price is not None else _prices(deployment)
    tiers = getattr(prices.input_mtok, "tiers", ()) if prices is not None else ()
    return max((tier.start for tier in tiers if input_tokens > tier.start), default=0) + (1 if tiers else 0)


def _at_size(price: Tiered, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base
    for tier in price.tiers:
        if input_tokens > tier.start:
            chosen = tier.price
    return chosen


def _prices(deployment: Deployment) -> Any:
    model = _find(deployment.provider, deployment.model)
    return model.get_prices(datetime.now(UTC)) if model else None


@lru_cache(maxsize=256)
def _find(provider: str, model: str) -> Any:
    list_id = _LIST_IDS.get(provider)
    if list_id is None:
        return None
    try:
        from genai_prices import data_snapshot
    except ModuleNotFoundError:
        raise MissingExtra(
            f"the price of {model} stands in a list that is not installed: pip install 'tierq[quote]', "
            "or give its deployment a price in tierq.toml"
        ) from None
    try:
        return data_snapshot.get_snapshot().find_provider_model(model, None, list_id, None)[1]
    except LookupError:
        return None
