"""The tier for one kind and size of task: the cheapest that clears what is required, or where it is now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tierq_insight.standings import Judgement, Requirement, Standing, judge
from tierq_shared.policy_document import RuleEvidence

Order = Literal["cost", "latency", "success"]


@dataclass(frozen=True, slots=True)
class Place:
    """A tier, and the order of its deployments; None is the tier's own."""

    tier: str
    chain: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Where tasks of one kind and size go, and why."""

    place: Place
    evidence: RuleEvidence
    is_stay: bool = False
    """Too little is known to move them."""

    def same_as(self, other: Choice) -> bool:
        """Whether both say the same for the same kind of reason, so that one row can say it."""
        return (self.place, self.is_stay) == (other.place, other.is_stay)


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses among tiers (cheapest first, with their chains) by the evidence on one kind and size of task."""

    tiers: Mapping[str, Sequence[str]]
    baseline: str
    """The tier that others are compared with where no absolute quality is required."""
    order: Order = "cost"

    def choose(
        self,
        standings: Sequence[Standing],
        requirement: Requirement,
        current: Place,
        *,
        too_slow: Collection[str] = (),
    ) -> Choice:
        """The cheapest tier that clears the requirement; the current one where too little is known.

        ``too_slow``: deployments that may not stand first.
        """
        judged = self._judged(standings, requirement)
        clearing = {
            tier: ordered
            for tier in self.tiers
            if (ordered := self._ordered([one for one in judged if one.standing.tier == tier and one.clears], too_slow))
        }
        measured = {one.standing.tier for one in judged}
        if clearing:
            tier = self._cheapest(clearing)
            if current.tier in measured or self._rank(tier) <= self._rank(current.tier):
                return self._moved(tier, clearing[tier], judged)
        elif current.tier in measured and not too_slow:
            return self._best_effort(judged)
        return _stay(current, standings, requirement)

    def baseline_of(self, standings: Sequence[Standing]) -> Standing | None:
        """The baseline tier's deployment with the most samples; the chain's order breaks ties."""
        found = [one for one in standings if one.tier == self.baseline]
        return max(found, key=lambda one: (len(one.scores), -self._link(one)), default=None)

    def chain(self, first: str, tier: str) -> tuple[str, ...]:
        """The tier's own chain with another deployment first."""
        return (first, *(name for name in self.tiers.get(tier, ()) if name != first))

    def _judged(self, standings: Sequence[Standing], requirement: Requirement) -> list[Judgement]:
        baseline = self.baseline_of(standings)
        judged = [judge(one, requirement, baseline) for one in standings]
        return [one for one in judged if one is not None]

    def _ordered(self, clearing: Sequence[Judgement], too_slow: Collection[str]) -> list[Judgement]:
        fast = [one for one in clearing if one.standing.deployment not in too_slow]
        return sorted(fast, key=lambda one: (*self._by_order(one), self._link(one.standing)))

    def _by_order(self, one: Judgement) -> tuple[float, ...]:
        cost, latency = one.standing.cost_usd_per_1000, one.standing.p50_ms
        priced = (float(cost is None), cost or 0.0)
        if self.order == "latency":
            return (float(latency is None), float(latency or 0), *priced)
        return priced if self.order == "cost" else (-one.quality.mean, *priced)

    def _cheapest(self, clearing: Mapping[str, Sequence[Judgement]]) -> str:
        """By everything charged; by the tiers' own order where a price is unknown: unknown is not free."""
        costs = {tier: found[0].standing.cost_usd_per_1000 for tier, found in clearing.items()}
        if any(cost is None for cost in costs.values()):
            return min(clearing, key=self._rank)
        return min(clearing, key=lambda tier: (costs[tier], self._rank(tier)))

    def _moved(self, tier: str, clearing: Sequence[Judgement], judged: Sequence[Judgement]) -> Choice:
        first = clearing[0]
        behind = [one.standing.deployment for one in clearing]
        others = [one for one in judged if one.standing.tier == tier and one.standing.deployment not in behind]
        others.sort(key=lambda one: (-one.quality.mean, self._link(one.standing)))
        behind += [one.standing.deployment for one in others]
        chain = (*behind, *(name for name in self.tiers[tier] if name not in behind))
        place = Place(tier, chain if len(chain) > 1 else None)
        price = _price(first.standing)
        words = f"the cheapest tier whose lower bound clears {first.required:.3f}: {first.quality.lower:.3f}, {price}"
        words += self._short_of(judged, below=self._rank(tier))
        return Choice(place, evidence_of(first, words))

    def _short_of(self, judged: Sequence[Judgement], below: int) -> str:
        """How close the tiers below came."""
        best: dict[str, float] = {}
        for one in judged:
            tier = one.standing.tier
            if self._rank(tier) < below and not one.clears:
                best[tier] = max(best.get(tier, -1.0), one.quality.lower)
        return "".join(f"; {tier} has {lower:.3f}" for tier, lower in best.items())

    def _best_effort(self, judged: Sequence[Judgement]) -> Choice:
        best = max(judged, key=lambda one: (one.quality.lower, -self._rank(one.standing.tier)))
        words = (
            f"no tier's lower bound clears {best.required:.3f}: {best.standing.tier} has the highest, "
            f"{best.quality.lower:.3f}"
        )
        tier = best.standing.tier
        chain = self.chain(best.standing.deployment, tier)
        return Choice(Place(tier, chain if len(chain) > 1 else None), evidence_of(best, words))

    def _rank(self, tier: str) -> int:
        return list(self.tiers).index(tier)

    def _link(self, standing: Standing) -> int:
        chain = list(self.tiers.get(standing.tier, ()))
        return chain.index(standing.deployment) if standing.deployment in chain else len(chain)


def evidence_of(judgement: Judgement, verdict: str) -> RuleEvidence:
    """A judgement as a rule shows it."""
    standing, quality = judgement.standing, judgement.quality
    cost = standing.cost_usd_per_1000
    return RuleEvidence(
        verdict=verdict,
        samples=quality.samples,
        quality=round(quality.mean, 6),
        lower=round(quality.lower, 6),
        upper=round(quality.upper, 6),
        required=round(judgement.required, 6),
        cost_usd_per_1000=None if cost is None else round(cost, 9),
        p50_ms=standing.p50_ms,
        p95_ms=standing.p95_ms,
        failure_rate=round(standing.failure_rate, 6),
        source=standing.source,
    )


def stay(current: Place, samples: int, required: float | None, why: str) -> Choice:
    """Tasks stay where they are."""
    verdict = f"{why}: stays on {current.tier}"
    return Choice(current, RuleEvidence(verdict=verdict, samples=samples, required=required), is_stay=True)


def _stay(current: Place, standings: Sequence[Standing], requirement: Requirement) -> Choice:
    samples = max((len(one.scores) for one in standings), default=0)
    needed = requirement.min_samples
    if samples < needed:
        why = f"too little data ({samples} of {needed} samples)"
    elif requirement.quality is None:
        why = f"too little data (fewer than {needed} samples that this tier and the baseline both answered)"
    else:
        why = f"too little data on {current.tier} (fewer than {needed} samples)"
    return stay(current, samples, requirement.quality, why)


def _price(standing: Standing) -> str:
    cost = standing.cost_usd_per_1000
    return "at an unknown price, so by the tiers' order" if cost is None else f"at ${cost:.4g} per 1,000"
