"""Money as exact integers: nano-USD (1 USD = 1,000,000,000 nano-USD), and the token counts it is charged by."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

NANO = 1_000_000_000
_TOKENS_PER_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, in the sense in which every provider's counts are brought here.

    ``input_tokens`` counts all of the input, the cached and the cache-written tokens among it;
    ``output_tokens`` counts all of the output, the reasoning tokens among it.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """What a deployment charges, in nano-USD per million tokens (so a price of 0.15 USD per MTok is 150,000,000).

    ``version`` goes on every attempt row that was priced by it, so that a cost can be explained later.
    """

    input: int
    output: int
    cached: int
    cache_write: int
    version: str

    def cost_nusd(self, usage: Usage) -> int:
        """The exact cost of one call, rounded half up to a whole nano-USD once, at the end."""
        plain = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        scaled = (
            plain * self.input
            + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        )
        return (2 * scaled + _TOKENS_PER_RATE) // (2 * _TOKENS_PER_RATE)


def nano_rate(usd_per_mtok: Decimal) -> int:
    """A list price in USD per million tokens as nano-USD per million tokens."""
    return int((usd_per_mtok * NANO).to_integral_value())


MOST_USD = 1_000_000_000
"""A billion dollars: far below what a 64-bit integer of nano-USD holds."""


def to_nano(amount: object) -> int:
    """An amount of USD above zero as whole nano-USD. A float is taken as what it prints: 0.1 is a tenth.

    Raises:
        ValueError: it is no such amount; the message says why, and how to write one.
    """
    if isinstance(amount, bool) or not isinstance(amount, str | int | float | Decimal):
        raise ValueError(f"must be an amount in USD such as '0.05', not {type(amount).__name__}")  # noqa: TRY004 - one kind
    try:
        exact = Decimal(str(amount).strip().removeprefix("$"))
    except InvalidOperation:
        raise ValueError("is no amount in USD: write it as '0.05'") from None
    if not exact.is_finite():
        raise ValueError("must be a finite amount in USD: leave it out where there is no cap")
    if exact <= 0:
        raise ValueError("must be more than 0: leave it out where there is no cap")
    if exact > MOST_USD:
        raise ValueError(f"must be at most {MOST_USD:,} USD")
    nano = exact * NANO
    if nano != nano.to_integral_value():
        raise ValueError("has more than nine decimals: 0.000000001 USD is the smallest unit")
    return int(nano)


def usd(nusd: int | None) -> Decimal | None:
    """Nano-USD as an exact decimal of USD; None stays None: an unknown cost is never 0."""
    return None if nusd is None else Decimal(nusd) / NANO


def show_usd(nusd: int | None) -> str:
    """A cost for people: four digits that matter, and `unpriced` where the price is unknown."""
    if nusd is None:
        return "unpriced"
    dollars = Decimal(nusd) / NANO
    return (
        f"${dollars:.2f}" if dollars >= 100 else f"${dollars:.4f}" if dollars >= Decimal("0.01") else f"${dollars:.6f}"
    )
