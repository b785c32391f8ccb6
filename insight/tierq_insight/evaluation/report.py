"""The report of an evaluation: a line for each kind of task, input bucket and deployment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tierq_insight.evaluation.measures import Measures, measure
from tierq_insight.evaluation.record import Judged
from tierq_insight.evidence import BUCKETS, bucket
from tierq_shared.intervals import Interval

Bucket = int | None | Literal["all"]
"""The upper bound of an input bucket in tokens, None for the open one, or all of them together."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one deployment's answers to one kind of task, of one input bucket, came to."""

    type: str
    name: str
    bucket: Bucket
    deployment: str
    tier: str
    model: str
    answers: int
    failed: int
    unpriced: int
    """Answers whose cost is not known."""
    measures: Measures

    def json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "name": self.name,
            "input": bucket_in_words(self.bucket),
            "max_input_tokens": self.bucket if isinstance(self.bucket, int) else None,
            "deployment": self.deployment,
            "tier": self.tier,
            "model": self.model,
            "answers": self.answers,
            "failed": self.failed,
            "unpriced": self.unpriced,
            **{name: interval_json(one) for name, one in self.measures.items()},
        }


def report(judged: Sequence[Judged], deployments: Sequence[str]) -> list[Line]:
    """The lines, by kind, then by input size, then by deployment in the order in which they were named.

    A kind whose samples fall in several buckets has lines for all of them together, too.
    """
    groups: dict[tuple[str, str, Bucket, str], list[Judged]] = defaultdict(list)
    for one in judged:
        groups[one.type, one.name, bucket(one.input_tokens), one.deployment].append(one)
        groups[one.type, one.name, "all", one.deployment].append(one)
    buckets: dict[tuple[str, str], set[Bucket]] = defaultdict(set)
    for type_, name, size, _ in groups:
        buckets[type_, name].add(size)
    rank = {name: number for number, name in enumerate(deployments)}
    kept = [key for key in groups if key[2] != "all" or len(buckets[key[0], key[1]]) > 2]
    kept.sort(key=lambda key: (key[0], key[1], _size(key[2]), rank.get(key[3], len(rank)), key[3]))
    return [_line(key, groups[key]) for key in kept]


def bucket_in_words(size: Bucket) -> str:
    """`≤ 250 tokens`, `> 64,000 tokens` or `all`."""
    if size == "all":
        return "all"
    return f"> {BUCKETS[-1]:,} tokens" if size is None else f"≤ {size:,} tokens"


def interval_json(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"value": interval.mean, "lower": interval.lower, "upper": interval.upper}


def _size(size: Bucket) -> float:
    if size == "all":
        return float("inf")
    return float(BUCKETS[-1] + 1 if size is None else size)


def _line(key: tuple[str, str, Bucket, str], judged: Sequence[Judged]) -> Line:
    type_, name, size, deployment = key
    return Line(
        type=type_,
        name=name,
        bucket=size,
        deployment=deployment,
        tier=judged[-1].tier,
        model=judged[-1].model,
        answers=len(judged),
        failed=sum(one.failed for one in judged),
        unpriced=sum(one.cost_nusd is None for one in judged),
        measures=measure(judged),
    )
