"""Evidence made to measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tierq_insight.evidence import Evidence

TIERS = {"small": ["mini"], "medium": ["midi"], "large": ["maxi"]}
_COSTS = {"small": 1_000, "medium": 5_000, "large": 50_000}


def answers(
    tier: str, right: int, wrong: int = 0, *, deployment: str | None = None, input_tokens: int = 100, **fields: Any
) -> list[Evidence]:
    """Judged answers of one deployment: the first ``right`` samples are right. Samples are paired by their number."""
    values: dict[str, Any] = {
        "type": "classify",
        "name": "intent",
        "tier": tier,
        "deployment": deployment or TIERS[tier][0],
        "input_tokens": input_tokens,
        "cost_nusd": _COSTS[tier],
        "latency_ms": 100,
    } | fields
    return [
        Evidence(sample=f"{input_tokens}-{number}", score=float(number < right), **values)
        for number in range(right + wrong)
    ]


def flat(*groups: Sequence[Evidence]) -> list[Evidence]:
    return [one for group in groups for one in group]
