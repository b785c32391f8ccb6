"""Makes money of tasks: what they are expected to cost, and how wrong that may be.

Two kinds of error are kept apart. Single calls scatter around their mean, which evens out over many tasks: variances
add. What is believed of the mean may itself be wrong, for all tasks alike, which does not even out: deviations add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, hypot, log, sqrt
from typing import Any

import orjson

from tierq_shared.cascade import CascadeRule, find_rule
from tierq_shared.deployments import Deployment, in_order
from tierq_shared.money import Rates
from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.prices import PriceList
from tierq_shared.prompts import VERDICT_SPEC, VERIFICATION_BYTES
from tierq_shared.quoting.beliefs import Chance
from tierq_shared.quoting.cells import Cell
from tierq_shared.quoting.figures import Range
from tierq_shared.quoting.history import History, Learned
from tierq_shared.settings import Settings, meets

Z80 = 1.2816
"""The 90 % point of the normal distribution: 80 % lie between it and its negative."""

_CACHED_FROM_TOKENS = 1_024
"""Shorter prompts are not cached by providers that cache by themselves (OpenAI's guide to prompt caching)."""

_MOST_SPREAD = 1.5
"""A bound on the deviation of a cost's logarithm. Beyond, the mean would leave the band."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of some tasks in nano-USD, as a mean with its errors."""

    mean: float = 0.0
    variance: float = 0.0
    """By the scatter of single calls."""
    doubt: float = 0.0
    """The standard deviation of what is wrong for all of them alike."""
    cacheable: float = 0.0
    """What the mean would be lower by if the constant part of every prompt came from the provider's cache."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.mean + other.mean,
            self.variance + other.variance,
            self.doubt + other.doubt,
            self.cacheable + other.cacheable,
        )

    def times(self, share: float) -> Cost:
        """Of a share of the tasks, or of each of them so many times."""
        return Cost(self.mean * share, self.variance * share, self.doubt * share, self.cacheable * share)

    def range(self) -> Range[int]:
        """Its band: the 10 % and 90 % points of the log-normal distribution of the same mean and variance.

        A sum of a few positive costs is skewed, of many it is all but normal: the log-normal is close to either.
        """
        if self.mean <= 0:
            return Range(0, 0, 0)
        spread = min(_MOST_SPREAD, sqrt(log(1 + (self.variance + self.doubt**2) / self.mean**2)))
        middle = self.mean * exp(-(spread**2) / 2)
        low = middle * exp(-Z80 * spread) * max(0.0, 1 - self.cacheable / self.mean)
        return Range(round(low), round(self.mean), round(middle * exp(Z80 * spread)))


@dataclass(frozen=True, slots=True)
class Call:
    """What the calls of a cell to one deployment take."""

    deployment: Deployment
    learned: Learned
    cost: Cost | None
    """None where the deployment has no known price."""
    tokens: float
    """Input and output of all of them together."""
    each: float
    """How many calls a task takes: its answer, the samples that a cascade compares it with, re-asks."""


@dataclass(frozen=True, slots=True)
class CellCost:
    """What a cell's tasks take on their tier and above it."""

    first: Call
    verification: Call | None
    """Where a cascade has each of its answers verified."""
    cost: Cost | None
    if_failed_over: Cost | None
    """If the first deployment were down; None where no other one is priced."""
    next_tier: str | None
    escalated: Chance
    unpriced: tuple[str, ...]
    """Deployments that some of its calls may go to, and whose price is unknown."""


class Costs:
    """Prices cells by what a history teaches."""

    def __init__(self, settings: Settings, prices: PriceList, history: History) -> None:
        self._settings = settings
        self._prices = prices
        self._history = history

    def of(self, cell: Cell) -> CellCost | None:
        """What a cell takes; None where no deployment is known that may run it."""
        constraints: dict[str, Any] = orjson.loads(cell.constraints) if cell.constraints else {}
        calls = self._calls(cell, cell.tier, constraints)
        if not calls:
            return None
        verification = self._verification(cell, cell.tier, calls[0], constraints)
        cost = self._on_tier(cell, cell.tier, calls, verification)
        next_tier, escalated = self._next_tier(cell.tier, constraints), self._history.escalated(cell)
        unpriced = [call.deployment.name for call in [*calls, verification] if call and call.cost is None]
        above = self._calls(cell, next_tier, constraints) if next_tier else []
        if above and cost is not None:
            verified = self._verification(cell, next_tier or "", above[0], constraints)
            going_on = self._on_tier(cell, next_tier or "", above, verified)
            unpriced += [call.deployment.name for call in (above[0], verified) if call and call.cost is None]
            cost += _happening(escalated, going_on, cell.tasks) if going_on else Cost()
        others = [call.cost for call in calls[1:] if call.cost is not None]
        dearest = max(others, key=lambda other: other.mean, default=None)
        return CellCost(
            first=calls[0],
            verification=verification,
            cost=cost,
            if_failed_over=dearest if cost else None,
            next_tier=next_tier if above else None,
            escalated=escalated,
            unpriced=tuple(unpriced),
        )

    def _calls(self, cell: Cell, tier: str, constraints: dict[str, Any]) -> list[Call]:
        if tier not in self._settings.tiers:
            return []
        require, rule = constraints.get("require", {}), self._rule(cell, tier)
        samples = rule.calls if rule and rule.signal == "agreement" else 1
        chain = in_order(self._settings.chain(tier), cell.order if tier == cell.tier else ())
        return [self._call(cell, one, samples) for one in chain if meets(one, require)]

    def _rule(self, cell: Cell, tier: str) -> CascadeRule | None:
        """What judges the tier's answers to such tasks."""
        return find_rule(self._settings.cascade, cell.type, cell.name, tier, self._settings.tier_names)

    def _verification(self, cell: Cell, tier: str, answer: Call, constraints: dict[str, Any]) -> Call | None:
        """The calls that verify a tier's answers; None where nobody does."""
        rule = self._rule(cell, tier)
        verifier = self._settings.verifier(rule, constraints.get("require", {})) if rule else None
        if verifier is None:
            return None
        more = VERIFICATION_BYTES + answer.learned.answer_tokens.value * BYTES_PER_TOKEN
        return self._call(cell.with_prompts(VERDICT_SPEC, more), verifier)

    def _next_tier(self, tier: str, constraints: dict[str, Any]) -> str | None:
        """Where an escalation goes, by the rules that workers keep."""
        if constraints.get("pinned"):
            return None
        tiers = self._settings.tier_names
        for name in tiers[tiers.index(tier) + 1 :]:
            if tier == constraints.get("max_tier"):
                return None
            if self._settings.serves(name, constraints.get("require", {})):
                return name
            tier = name
        return None

    def _call(self, cell: Cell, deployment: Deployment, samples: int = 1) -> Call:
        learned = self._history.of(cell, deployment.name)
        tokens = learned.tokens_a_byte.value * cell.prompt_bytes
        bound = cell.max_output_tokens or deployment.max_output_tokens
        output = min(learned.answer_tokens.value, bound) * cell.tasks
        rates = self._prices.rates(deployment, input_tokens=round(tokens / cell.tasks))
        cost = _cost(cell, learned, rates, tokens, output, samples) if rates else None
        each = samples + learned.reasked.share
        return Call(deployment, learned, cost, (tokens + output) * each, each)

    def _on_tier(self, cell: Cell, tier: str, calls: Sequence[Call], verification: Call | None) -> Cost | None:
        """What a tier's answers cost, verified where they are to be."""
        cost = self._answered(cell, tier, calls)
        return cost + verification.cost if cost and verification and verification.cost else cost

    def _answered(self, cell: Cell, tier: str, calls: Sequence[Call]) -> Cost | None:
        """The first deployment's cost, with the share of tasks that others of the chain serve."""
        first, served = calls[0].cost, partial(self._history.served, cell, tier)
        if first is None:
            return None
        others = [(call.cost, 1 + served(call.deployment.name)) for call in calls[1:] if call.cost]
        if not others:
            return first
        left = self._history.left_first(cell, tier, calls[0].deployment.name)
        weights = sum(weight for _, weight in others)
        elsewhere = sum((cost.times(weight / weights) for cost, weight in others), Cost())
        wrong = left.doubt * max(abs(cost.mean - first.mean) for cost, _ in others)
        mixed = first.times(1 - left.share) + elsewhere.times(left.share)
        scatter = left.share * (1 - left.share) * (elsewhere.mean - first.mean) ** 2 / cell.tasks
        return Cost(mixed.mean, mixed.variance + scatter, hypot(mixed.doubt, wrong), mixed.cacheable)


def _cost(cell: Cell, learned: Learned, rates: Rates, tokens: float, output: float, samples: int) -> Cost:
    """Prompts and answers at a deployment's prices, with re-asks and what is charged for calls of unknown outcome.

    ``samples``: how many answers each task is given. Only the first of them is asked for again where it is invalid.
    """
    each = _input_price(rates, learned.cached, learned.written)
    prompts, answers = tokens * each, output * rates.output / 1e6
    scatter = (learned.tokens_a_byte.scatter * learned.tokens_a_byte.value * each) ** 2 * cell.squared_bytes
    scatter += (learned.answer_tokens.scatter * answers) ** 2 / cell.tasks
    doubt = hypot(prompts * learned.tokens_a_byte.doubt, answers * learned.answer_tokens.doubt)
    plain = Cost(prompts + answers, scatter, doubt, _cacheable(cell, learned, rates, tokens))
    more = 1 + learned.unknown
    charged = Cost(plain.mean * more, plain.variance * more**2, plain.doubt * more, plain.cacheable)
    return charged.times(samples) + _happening(learned.reasked, charged, cell.tasks)


def _cacheable(cell: Cell, learned: Learned, rates: Rates, tokens: float) -> float:
    """What the provider's cache may save at the most, where the ledger does not know yet."""
    constant = tokens * cell.constant_bytes / cell.prompt_bytes
    if learned.knows_cache or constant / cell.tasks < _CACHED_FROM_TOKENS:
        return 0.0
    return max(0.0, constant * (rates.input - rates.cached) / 1e6)


def _input_price(rates: Rates, cached: float, written: float) -> float:
    """Nano-USD for a token of input, by the shares that the provider's cache has a hand in."""
    plain = max(0.0, 1 - cached - written)
    return (plain * rates.input + cached * rates.cached + written * rates.cache_write) / 1e6


def _happening(chance: Chance, cost: Cost, tasks: int) -> Cost:
    """What happens to each of the tasks with a chance, at so much if it happened to all of them."""
    scatter = chance.share * (1 - chance.share) * cost.mean**2 / tasks
    return Cost(
        cost.mean * chance.share,
        cost.variance * chance.share + scatter,
        hypot(cost.doubt * chance.share, chance.doubt * cost.mean),
    )
