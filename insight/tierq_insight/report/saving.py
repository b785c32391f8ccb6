"""What was saved against one model for everything, with everything charged, and how sure that is.

The assumption: the baseline would have taken the same input tokens, and given as many output tokens, as the calls that
gave the answers; at its plain input price, since its prompt cache is not known; at the first try; and nothing for tasks
that ended without an answer or were answered by the cache. What TierQ spent beyond those calls (failed, re-asked,
escalated and unknown ones, shadows, evaluations) is charged to TierQ's side alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tierq_insight.report.figures import Baseline, Interval, Saving, Sums, add_up
from tierq_shared.money import Rates, Usage

RESAMPLES = 1_000
_FOLDED = 1_024
_FEWEST = 30
"""Bags with fewer say nothing of how others would have come out."""

Costs = tuple[int, int]
"""What a bag of tasks cost, and would have cost at the baseline."""


def saving(baseline: Baseline, bags: Mapping[str, Sums]) -> Saving:
    """The comparison for all tasks. ``bags``: of tasks that are in each by chance, see `queries.bags`."""
    total = add_up(bags.values())
    return Saving(
        baseline=baseline,
        answers=total.answers,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cost_nusd=total.cost_nusd,
        baseline_nusd=_at(baseline.rates, total),
        unpriced=total.unpriced,
        share=interval([(one.cost_nusd, _at(baseline.rates, one)) for one in _folded(bags)]),
    )


def interval(costs: Sequence[Costs], resamples: int = RESAMPLES) -> Interval | None:
    """The 95 % interval of the saved share: the percentile bootstrap over bags of tasks (Efron 1979).

    Bags that tasks are in by chance are as independent as the tasks; with as few tasks as bags they are the tasks. The
    draws are the same each time, so that the same ledger makes the same report.
    """
    if len(costs) < _FEWEST or not sum(baseline for _, baseline in costs):
        return None
    dice = random.Random(1)  # noqa: S311  # no secret rests on it
    shares = sorted(_share(dice.choices(costs, k=len(costs))) for _ in range(resamples))
    return Interval(shares[resamples * 25 // 1000], shares[resamples - 1 - resamples * 25 // 1000])


def _share(drawn: Sequence[Costs]) -> float:
    ours, baseline = map(sum, zip(*drawn, strict=True))
    return 1 - ours / baseline if baseline else 0.0


def _folded(bags: Mapping[str, Sums]) -> list[Sums]:
    """At most 1,024 bags: enough for the interval, and a fourth of the draws."""
    found: dict[int, Sums] = {}
    for name, sums in bags.items():
        number = int(name, 16) % _FOLDED
        found[number] = found.get(number, Sums()) + sums
    return list(found.values())


def _at(rates: Rates, sums: Sums) -> int:
    return rates.cost_nusd(Usage(input_tokens=sums.input_tokens, output_tokens=sums.output_tokens))
