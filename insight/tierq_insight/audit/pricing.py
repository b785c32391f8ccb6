"""What a call costs today, and what it would cost on a tier of the configuration: a range, with what makes it one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tierq_shared.deployments import Deployment, Provider
from tierq_shared.money import Rates, Usage
from tierq_shared.policy import Policy
from tierq_shared.prices import PriceList
from tierq_shared.settings import Settings

MAX_MODELS = 1_000
"""Models that are looked up; a log with more of them names something else in this field."""

_USUAL_INPUT = 32_000
"""Tokens of input that nearly every call stays below, and nearly every price that grows with size grows above."""
_PREFIXES: dict[str, Provider] = {
    "openai": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "google": "gemini",
}
"""What gateways write before a model's name, such as `anthropic/`."""


@dataclass(frozen=True, slots=True)
class Band:
    """A cost in nano-USD as a range."""

    low: int = 0
    expected: int = 0
    high: int = 0

    def __add__(self, other: Band) -> Band:
        return Band(self.low + other.low, self.expected + other.expected, self.high + other.high)


class Price:
    """The rates of one deployment. They are asked anew only for calls so large that they may depend on the size."""

    def __init__(self, prices: PriceList, deployment: Deployment) -> None:
        self.deployment = deployment
        self._prices = prices
        smallest = prices.rates(deployment)
        self._usual = smallest if smallest == prices.rates(deployment, input_tokens=_USUAL_INPUT) else None
        self.is_known = smallest is not None

    def cost_nusd(self, usage: Usage) -> int | None:
        """None where the price is unknown."""
        rates: Rates | None = self._usual
        if rates is None or usage.input_tokens > _USUAL_INPUT:
            rates = self._prices.rates(self.deployment, input_tokens=usage.input_tokens)
        return None if rates is None else rates.cost_nusd(usage)


class Pricing:
    """Prices of today's models and of the tiers, each looked up once."""

    def __init__(self, settings: Settings, policy: Policy, model: str | None) -> None:
        self._prices = PriceList()
        self._policy = policy
        self._model = model
        self._deployments = {one.model: one for one in settings.deployments.values()}
        self._models: dict[str, Price | None] = {}
        self._chains = {
            tier: [Price(self._prices, one) for one in settings.chain(tier)] if tier in settings.tiers else []
            for tier in policy.tiers
        }

    def model_of(self, logged: str | None) -> str | None:
        """The model of today: the logged one, else the one that the user named; None where neither is known."""
        model = logged or self._model
        is_new = model is not None and model not in self._models
        return None if is_new and len(self._models) >= MAX_MODELS else model

    def now(self, model: str | None, usage: Usage) -> int | None:
        """What a call costs on today's model, in nano-USD; None where model or price is unknown."""
        if model is None:
            return None
        if model not in self._models:
            self._models[model] = Price(self._prices, self._deployment(model))
        price = self._models[model]
        return price.cost_nusd(usage) if price else None

    def there(self, tier: str, usage: Usage, *, is_hard: bool, may_fail: bool) -> Band | None:
        """What a call would cost on a tier's first model; None where no deployment of its chain is priced.

        Low: no reasoning tokens, no escalation. Expected: a hard call is paid on the next tier as well. High: nothing
        is cached, and whatever may fail is paid on the next tier as well.
        """
        band = self._on(tier, usage)
        above = self._policy.next_tier(tier)
        if band is None or above is None or not (is_hard or may_fail):
            return band
        second = self._on(above, usage)
        if second is None:
            return None
        return band + Band(0, second.expected if is_hard else 0, second.high)

    def priced_by(self) -> dict[str, str | None]:
        """The model that each tier is priced by; None where no deployment of its chain has a price."""
        return {
            tier: next((price.deployment.model for price in chain if price.is_known), None)
            for tier, chain in self._chains.items()
        }

    def unpriced(self) -> list[str]:
        """The tiers' deployments without a known price."""
        prices = [price for chain in self._chains.values() for price in chain]
        return list(dict.fromkeys(price.deployment.name for price in prices if not price.is_known))

    def _on(self, tier: str, usage: Usage) -> Band | None:
        price = next((one for one in self._chains[tier] if one.is_known), None)
        expected = None if price is None else price.cost_nusd(usage)
        if price is None or expected is None:
            return None
        low = high = expected
        if usage.reasoning_tokens:
            plain = replace(usage, output_tokens=usage.output_tokens - usage.reasoning_tokens, reasoning_tokens=0)
            low = price.cost_nusd(plain) or 0
        if usage.cached_tokens or usage.cache_write_tokens:
            high = price.cost_nusd(replace(usage, cached_tokens=0, cache_write_tokens=0)) or 0
        return Band(low, expected, max(expected, high))

    def _deployment(self, model: str) -> Deployment:
        """The configured deployment of a model, with its own prices, else one to look its list price up by."""
        configured = self._deployments.get(model)
        if configured is not None:
            return configured
        prefix, _, rest = model.rpartition("/")
        provider = _PREFIXES.get(prefix.rpartition("/")[-1]) or _maker(rest)
        return Deployment(name=f"today: {model}", provider=provider, model=rest or model)


def _maker(model: str) -> Provider:
    """Who makes a model, by its name."""
    if model.startswith("claude"):
        return "anthropic"
    return "gemini" if model.startswith("gemini") else "openai"
