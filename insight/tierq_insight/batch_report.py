"""What one batch came to, from the ledger: by tier, model and outcome, and what one model would have cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, select

from tierq_shared.money import Rates, Usage
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks


@dataclass(frozen=True, slots=True)
class ModelLine:
    """The calls of a batch to one model on one tier."""

    tier: str
    model: str
    outcomes: Counter[str]
    cost_nusd: int
    p50_ms: int
    p95_ms: int


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch, with everything charged: failed, re-asked and escalated calls count like the others."""

    states: Counter[str]
    """Tasks by state."""
    types: Counter[tuple[str, str]]
    """Tasks by type and the tier they ended on."""
    lines: list[ModelLine]
    cost_nusd: int
    unpriced: int
    """Attempts of unknown price; not in ``cost_nusd``."""
    failovers: int
    """Calls to a next deployment of the same tier after one that failed."""
    escalations: int
    baseline_nusd: int | None
    """The served answers' tokens at the baseline's prices: what one model for everything would have cost."""


def batch_report(store: Store, batch_id: str, baseline: Rates | None) -> BatchReport:
    """Reads the report of one batch. ``baseline``: the rates of the model that everything is compared with."""
    with store.reading() as connection:
        ended = connection.execute(
            select(tasks.c.type, tasks.c.tier, tasks.c.state).where(tasks.c.batch_id == batch_id)
        ).all()
        calls = _calls(connection, batch_id)
    by_model: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for call in calls:
        by_model[call.tier, call.model].append(call)
    return BatchReport(
        states=Counter(row.state for row in ended),
        types=Counter((row.type, row.tier) for row in ended),
        lines=[_line(tier, model, group) for (tier, model), group in sorted(by_model.items(), key=_by_size)],
        cost_nusd=sum(call.cost_nusd or 0 for call in calls),
        unpriced=sum(call.cost_nusd is None for call in calls),
        failovers=_changes(
            calls, lambda before, after: before.tier == after.tier and before.deployment != after.deployment
        ),
        escalations=_changes(calls, lambda before, after: before.tier != after.tier),
        baseline_nusd=_baseline(calls, baseline) if baseline else None,
    )


def _calls(connection: Connection, batch_id: str) -> Sequence[Any]:
    return connection.execute(
        select(attempts)
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(tasks.c.batch_id == batch_id)
        .order_by(attempts.c.task_id, attempts.c.ordinal)
    ).all()


def _line(tier: str, model: str, calls: Sequence[Any]) -> ModelLine:
    latencies = sorted(call.latency_ms or 0 for call in calls if call.outcome == "succeeded") or [0]
    return ModelLine(
        tier=tier,
        model=model,
        outcomes=Counter(call.outcome for call in calls),
        cost_nusd=sum(call.cost_nusd or 0 for call in calls),
        p50_ms=_percentile(latencies, 0.50),
        p95_ms=_percentile(latencies, 0.95),
    )


def _by_size(item: tuple[tuple[str, str], list[Any]]) -> tuple[int, str]:
    """The models with the most calls first."""
    return -len(item[1]), item[0][1]


def _percentile(ordered: Sequence[int], share: float) -> int:
    """The nearest-rank percentile: the smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def _changes(calls: Sequence[Any], counts: Any) -> int:
    return sum(before.task_id == after.task_id and counts(before, after) for before, after in pairwise(calls))


def _baseline(calls: Sequence[Any], rates: Rates) -> int:
    served = [call for call in calls if call.outcome == "succeeded"]
    # Cached tokens are charged as plain ones: the other model's cache is not known.
    return sum(
        rates.cost_nusd(Usage(input_tokens=call.input_tokens or 0, output_tokens=call.output_tokens or 0))
        for call in served
    )
