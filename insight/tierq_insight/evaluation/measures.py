"""What the answers of one deployment to one kind of task come to: quality, cost, latency and failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tierq_insight.evaluation.bootstrap import (
    interval_of_mean,
    interval_of_percentile,
    interval_of_sums,
    mean_f1,
    ratio,
)
from tierq_insight.evaluation.record import Judged
from tierq_shared.intervals import Interval, mean_interval
from tierq_shared.money import NANO

QUALITY: dict[str, tuple[str, ...]] = {
    "classify": ("accuracy", "macro_f1"),
    "extract": ("fields_right", "precision", "recall", "exact_match"),
    "answer": ("right", "answerable", "citations", "answer_words"),
    "generate": ("score",),
}
"""What quality is made of, by type; the first is the mean of the scores, which a policy is derived from."""

Measures = dict[str, Interval | None]
"""Figures by name; None where there is nothing to measure, such as the cost of an unpriced model."""


def measure(judged: Sequence[Judged]) -> Measures:
    """All measures of answers that are of one type."""
    type_ = judged[0].type
    quality: Measures = dict.fromkeys(QUALITY[type_])
    quality[QUALITY[type_][0]] = mean_interval([one.score for one in judged])
    # Of answers that were erased the scores alone are left.
    details = [one.details for one in judged if one.details]
    if details and type_ == "classify":
        quality["macro_f1"] = macro_f1(details)
    elif details and type_ == "extract":
        quality |= _fields(details)
    elif details and type_ == "answer":
        quality |= _grounds(details)
    return {**quality, **_running(judged)}


def macro_f1(details: Sequence[dict[str, Any]]) -> Interval | None:
    """The mean of the labels' F1 over the labels that occur, expected or given. An answer that failed gives none."""
    pairs = [(_as_set(one["expected"]), _as_set(one["given"])) for one in details]
    labels = sorted({label for pair in pairs for side in pair for label in side})
    rows = [
        [float(label in side) for label in labels for side in (wanted & given, wanted, given)]
        for wanted, given in pairs
    ]
    return interval_of_sums(rows, mean_f1)


def _as_set(labels: Any) -> set[str]:
    if labels is None:
        return set()
    return set(labels) if isinstance(labels, list) else {labels}


def _fields(details: Sequence[dict[str, Any]]) -> Measures:
    return {
        "precision": interval_of_sums([(one["found"], one["given"]) for one in details], ratio),
        "recall": interval_of_sums([(one["found"], one["expected"]) for one in details], ratio),
        "exact_match": mean_interval([float(one["exact"]) for one in details]),
    }


def _grounds(details: Sequence[dict[str, Any]]) -> Measures:
    found: Measures = {}
    for name in ("answerable", "citations"):
        told = [float(one[name]) for one in details if name in one]
        found[name] = mean_interval(told) if told else None
    return {**found, "answer_words": interval_of_mean([one["words"] for one in details if "words" in one])}


def _running(judged: Sequence[Judged]) -> Measures:
    """Cost, latency and failures. Latencies are those of answers; one unpriced answer leaves the cost unknown."""
    priced = [one.cost_nusd * 1_000 / NANO for one in judged if one.cost_nusd is not None]
    latencies = [one.latency_ms for one in judged if one.latency_ms is not None and not one.failed]
    return {
        "cost_usd_per_1000": interval_of_mean(priced) if len(priced) == len(judged) else None,
        "p50_ms": interval_of_percentile(latencies, 50),
        "p95_ms": interval_of_percentile(latencies, 95),
        "failure_rate": mean_interval([float(one.failed) for one in judged]),
    }
