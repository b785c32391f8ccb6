"""The metrics of calls: how they ended, how long they took, what they used and cost, by deployment.

Whole numbers until Prometheus asks, so that what is counted is exact, and counting costs next to nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tierq_shared.money import NANO
from tierq_shared.outcomes import AttemptOutcome, ErrorClass
from tierq_shared.store.ledger import AttemptResult

OTHER = "other"
"""The label of what is neither in the configuration nor one of our words: label sets stay bounded."""

OUTCOMES = tuple(str(one) for one in (*AttemptOutcome, *ErrorClass) if one is not AttemptOutcome.STARTED)

TOKEN_KINDS = ("input", "cached", "cache_write", "output", "reasoning")

BUCKETS_S = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 300)
"""From a small model's label to a large one's thousand words."""

_BUCKETS_MS = [round(1000 * one) for one in BUCKETS_S]
_LABELS = [*(str(float(one)) for one in BUCKETS_S), "+Inf"]


class CallsOfDeployment:
    """What the calls of one deployment came to, all at zero: to begin with a count would hide it from `rate`."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys((*OUTCOMES, OTHER), 0)
        self.in_bucket = [0] * len(_LABELS)
        self.latency_ms = 0
        self.tokens = dict.fromkeys(TOKEN_KINDS, 0)
        self.cost_nusd = 0
        self.unpriced = 0

    def count(self, result: AttemptResult) -> None:
        """A call has ended."""
        self.outcomes[result.outcome if result.outcome in self.outcomes else OTHER] += 1
        if result.outcome != AttemptOutcome.CANCELLED:  # which was never sent
            self.in_bucket[bisect_left(_BUCKETS_MS, result.latency_ms)] += 1
            self.latency_ms += result.latency_ms
        if result.cost_nusd is None:
            self.unpriced += 1
        else:
            self.cost_nusd += result.cost_nusd
        if (usage := result.usage) is not None:
            tokens = self.tokens
            tokens["input"] += usage.input_tokens
            tokens["cached"] += usage.cached_tokens
            tokens["cache_write"] += usage.cache_write_tokens
            tokens["output"] += usage.output_tokens
            tokens["reasoning"] += usage.reasoning_tokens


class Calls(Collector):
    """The calls of a worker, by deployment. Counted by the event loop alone, read by any thread."""

    def __init__(self, deployments: Iterable[str]) -> None:
        self._of = {name: CallsOfDeployment() for name in deployments}

    def of(self, deployment: str) -> CallsOfDeployment | None:
        """None where it is not known yet."""
        return self._of.get(deployment)

    def add(self, deployment: str) -> CallsOfDeployment:
        return self._of.setdefault(deployment, CallsOfDeployment())

    def collect(self) -> Iterator[Metric]:
        # As it is now: SIGHUP may bring another deployment meanwhile.
        seen = list(self._of.items())
        attempts = CounterMetricFamily("tierq_attempts", "Calls that have ended.", labels=["deployment", "outcome"])
        seconds = HistogramMetricFamily(
            "tierq_attempt_seconds",
            "What calls took, until their answer or until they were given up.",
            labels=["deployment"],
        )
        tokens = CounterMetricFamily(
            "tierq_tokens",
            "Tokens of calls. cached and cache_write are among input, reasoning is among output.",
            labels=["deployment", "kind"],
        )
        cost = CounterMetricFamily("tierq_cost_usd", "What priced calls cost, in USD.", labels=["deployment"])
        unpriced = CounterMetricFamily(
            "tierq_unpriced_attempts", "Calls whose cost is not known.", labels=["deployment"]
        )
        for name, calls in seen:
            for outcome, count in calls.outcomes.items():
                attempts.add_metric([name, outcome], count)
            for kind, count in calls.tokens.items():
                tokens.add_metric([name, kind], count)
            below = zip(_LABELS, map(float, accumulate(calls.in_bucket)), strict=True)
            seconds.add_metric([name], list(below), calls.latency_ms / 1000)
            cost.add_metric([name], calls.cost_nusd / NANO)
            unpriced.add_metric([name], calls.unpriced)
        yield from (attempts, seconds, tokens, cost, unpriced)
