"""The best quality over all rows together for a given share of what the baseline tier would cost.

Rows are traded against each other: the money goes where it buys most quality, and a row may lose some where keeping
it would cost too much. So a single row may be worse than the baseline; each says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tierq_insight.allocation import Option, allocate
from tierq_insight.choosing import Choice, Chooser, Place, evidence_of
from tierq_insight.standings import Judgement, Requirement, Standing, judge
from tierq_insight.statistics import large_sample_interval
from tierq_shared.intervals import Interval
from tierq_shared.policy_document import RuleEvidence
from tierq_shared.specs import TaskType

Cell = tuple[TaskType, str, int | None]
"""Task type, name and input bucket."""

_KIND_WEIGHT = 30
"""How many samples the mean of the whole kind counts for in each of its buckets, so that few samples decide little."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one deployment would mean for one cell."""

    standing: Standing
    quality: float
    cost: float
    """USD per 1,000 tasks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which deployment each cell goes to."""

    offers: Mapping[Cell, _Offer]
    baselines: Mapping[Cell, _Offer]
    chooser: Chooser

    @property
    def share(self) -> float:
        """What it costs, of what the baseline does."""
        return _total(self.offers, self.baselines) / _total(self.baselines, self.baselines)

    @property
    def difference(self) -> Interval:
        """The quality against the baseline's, on the samples that both answered."""
        return large_sample_interval(
            [
                offer.standing.scores[sample] - score
                for cell, offer in self.offers.items()
                for sample, score in self.baselines[cell].standing.scores.items()
                if sample in offer.standing.scores
            ]
        )

    def choice(self, cell: Cell, known: Sequence[Standing]) -> Choice | None:
        """The choice for a cell; None where it is not part of the plan."""
        if cell not in self.offers:
            return None
        standing = self.offers[cell].standing
        evidence = self.evidence(standing, known)
        chain = self.chooser.chain(standing.deployment, standing.tier)
        place = Place(standing.tier, chain if len(chain) > 1 else None)
        return Choice(place, evidence) if evidence else None

    def evidence(self, standing: Standing, known: Sequence[Standing]) -> RuleEvidence | None:
        """What a row of the plan shows. It had to clear nothing by itself; what it is held to later is its bound."""
        judgement = judge(standing, Requirement(margin=0.0, min_samples=1), self.chooser.baseline_of(known))
        if judgement is None:
            return None
        evidence = evidence_of(judgement, _words(judgement))
        return evidence.model_copy(update={"required": evidence.lower})

    def summary(self) -> str:
        """What the whole comes to, in words."""
        if not self.offers:
            return "too little data for a plan: nothing moves"
        found = self.difference
        return (
            f"all rows together: {1 - self.share:.1%} cheaper than the {self.chooser.baseline} tier, quality "
            f"{found.mean:+.4f} ({found.lower:+.4f} to {found.upper:+.4f}) on the {found.samples:,} samples it was "
            "derived from; expect a little less on others"
        )


def make(known: Mapping[Cell, Sequence[Standing]], chooser: Chooser, spend: float, min_samples: int) -> Plan:
    """The plan that costs at most ``spend`` of what the baseline does. Kinds with too little data are left out."""
    offers = {cell: _offers(cell, known, min_samples) for cell in known}
    baselines = {
        cell: found
        for cell, list_ in offers.items()
        if (found := next((one for one in list_ if one.standing is chooser.baseline_of(known[cell])), None))
    }
    if _total(baselines, baselines) == 0:  # nothing to save, or nothing to compare with
        return Plan({}, {}, chooser)
    options = {
        cell: [_option(offer, baseline) for offer in offers[cell] if _share_samples(offer, baseline)]
        for cell, baseline in baselines.items()
    }
    chosen = allocate(options, spend * _total(baselines, baselines))
    return Plan({cell: option.what for cell, option in chosen.items()}, baselines, chooser)


def _share_samples(offer: _Offer, baseline: _Offer) -> bool:
    return not offer.standing.scores.keys().isdisjoint(baseline.standing.scores)


def _option(offer: _Offer, baseline: _Offer) -> Option[_Offer]:
    """An offer for a whole cell: cells count by the baseline's samples, which stand for the traffic."""
    weight = len(baseline.standing.scores)
    return Option(offer, offer.quality * weight, offer.cost * weight)


def _offers(cell: Cell, known: Mapping[Cell, Sequence[Standing]], min_samples: int) -> list[_Offer]:
    found = []
    for standing in known[cell]:
        of_kind = _of_kind(standing, cell, known)
        cost = standing.cost_usd_per_1000
        if cost is not None and len(of_kind) >= min_samples:
            found.append(_Offer(standing, _shrunk(standing, of_kind), cost))
    return found


def _of_kind(standing: Standing, cell: Cell, known: Mapping[Cell, Sequence[Standing]]) -> list[float]:
    """A deployment's scores on the whole kind, of every size."""
    return [
        score
        for other, list_ in known.items()
        if other[:2] == cell[:2]
        for one in list_
        if one.deployment == standing.deployment
        for score in one.scores.values()
    ]


def _shrunk(standing: Standing, of_kind: Sequence[float]) -> float:
    """A size's mean drawn towards that of the whole kind: with few samples of a size the kind speaks for it."""
    own = list(standing.scores.values())
    return (sum(own) + _KIND_WEIGHT * sum(of_kind) / len(of_kind)) / (len(own) + _KIND_WEIGHT)


def _total(offers: Mapping[Cell, _Offer], weights: Mapping[Cell, _Offer]) -> float:
    return sum(offer.cost * len(weights[cell].standing.scores) for cell, offer in offers.items())


def _words(judgement: Judgement) -> str:
    reference = judgement.required  # the margin is 0: what is required is the baseline's mean
    quality = judgement.quality
    return (
        f"by the plan for all rows together: against the baseline {quality.mean - reference:+.3f} "
        f"({quality.lower - reference:+.3f} to {quality.upper - reference:+.3f})"
    )
