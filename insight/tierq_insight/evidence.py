"""Evidence: how good one answer of one deployment was, its cost and latency. What a policy is derived from."""

from __future__ import annotations

from dataclasses import dataclass

from tierq_shared.specs import TaskType

BUCKETS = (250, 1_000, 4_000, 16_000, 64_000)
"""Upper bounds of the input buckets, in tokens by the rule of thumb that routing goes by; the last one is open."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One judged answer. Answers of several deployments to one ``sample`` are compared in pairs."""

    sample: str
    type: TaskType
    name: str
    input_tokens: int
    tier: str
    deployment: str
    score: float
    """From 0 (wrong) to 1 (right)."""
    failed: bool = False
    """No usable answer came; its score is 0."""
    cost_nusd: int | None = None
    """All of its attempts; None where any is unpriced."""
    latency_ms: int | None = None
    confidence: float | None = None
    source: str = "evaluation"


def bucket(input_tokens: int) -> int | None:
    """The upper bound of the bucket that an input falls in; None for the last, open one."""
    return next((bound for bound in BUCKETS if input_tokens <= bound), None)
