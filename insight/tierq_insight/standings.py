"""How the deployments stand on one kind and size of task, and whether one clears what is required of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tierq_insight.evidence import Evidence
from tierq_insight.statistics import difference_interval, percentile
from tierq_shared.intervals import Interval, mean_interval
from tierq_shared.money import NANO

Source = Literal["evaluation", "live", "both", "none"]


@dataclass(frozen=True)
class Standing:
    """One deployment's judged answers to one kind and size of task."""

    tier: str
    deployment: str
    answers: Sequence[Evidence] = field(repr=False)

    @cached_property
    def scores(self) -> dict[str, float]:
        """The score of each sample; of one that was answered several times the mean, so that it counts once."""
        by_sample: dict[str, list[float]] = defaultdict(list)
        for answer in self.answers:
            by_sample[answer.sample].append(0.0 if answer.failed else answer.score)
        return {sample: sum(scores) / len(scores) for sample, scores in by_sample.items()}

    @cached_property
    def cost_usd_per_1000(self) -> float | None:
        """Everything charged for 1,000 tasks, failed answers included; None where any is unpriced."""
        costs = [answer.cost_nusd for answer in self.answers if answer.cost_nusd is not None]
        if len(costs) < len(self.answers):
            return None
        return sum(costs) * 1_000 / len(costs) / NANO

    @cached_property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    @property
    def failure_rate(self) -> float:
        return sum(answer.failed for answer in self.answers) / len(self.answers)

    @property
    def p50_ms(self) -> int | None:
        return self._latency(50)

    @property
    def p95_ms(self) -> int | None:
        return self._latency(95)

    @property
    def source(self) -> Source:
        evaluated = {answer.source == "evaluation" for answer in self.answers}
        return "both" if len(evaluated) == 2 else "evaluation" if evaluated == {True} else "live"

    def _latency(self, percent: int) -> int | None:
        latencies = sorted(answer.latency_ms for answer in self.answers if answer.latency_ms is not None)
        return percentile(latencies, percent) if latencies else None


def standings(evidence: Iterable[Evidence]) -> list[Standing]:
    """The deployments that the evidence speaks of, in the order of tier and name."""
    groups: dict[tuple[str, str], list[Evidence]] = defaultdict(list)
    for answer in evidence:
        groups[answer.tier, answer.deployment].append(answer)
    return [Standing(tier, deployment, answers) for (tier, deployment), answers in sorted(groups.items())]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the lower bound of a deployment's quality has to reach."""

    quality: float | None = None
    """An absolute quality, from 0 to 1; None: no worse than the baseline on the same samples."""
    margin: float = 0.02
    """By how much the lower bound may fall short of the baseline."""
    min_samples: int = 30

    def stricter(self) -> Requirement:
        """Half as many errors, or half the margin."""
        quality = None if self.quality is None else (1 + self.quality) / 2
        return Requirement(quality, self.margin / 2, self.min_samples)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A deployment's quality against what is required.

    Against a baseline the interval is that of the paired difference, laid at the baseline's mean: so quality, bounds
    and ``required`` are on the scale of scores either way.
    """

    standing: Standing
    quality: Interval
    required: float

    @property
    def clears(self) -> bool:
        # What rounding alone holds back by 1e-16 clears: the baseline does against itself with no margin.
        return self.quality.lower >= self.required - 1e-12


def judge(standing: Standing, requirement: Requirement, baseline: Standing | None) -> Judgement | None:
    """Whether a deployment clears the requirement; None where there is too little data to say."""
    if requirement.quality is not None:
        if len(standing.scores) < requirement.min_samples:
            return None
        return Judgement(standing, mean_interval(list(standing.scores.values())), requirement.quality)
    if baseline is None:
        return None
    return _against(standing, requirement, baseline)


def _against(standing: Standing, requirement: Requirement, baseline: Standing) -> Judgement | None:
    paired = [sample for sample in standing.scores if sample in baseline.scores]
    if len(paired) < requirement.min_samples:
        return None
    reference = sum(baseline.scores[sample] for sample in paired) / len(paired)
    difference = Interval(0.0, 0.0, 0.0, len(paired))
    if standing.deployment != baseline.deployment:
        difference = difference_interval(
            [standing.scores[sample] for sample in paired], [baseline.scores[sample] for sample in paired]
        )
    quality = Interval(
        reference + difference.mean, reference + difference.lower, reference + difference.upper, len(paired)
    )
    return Judgement(standing, quality, reference - requirement.margin)
