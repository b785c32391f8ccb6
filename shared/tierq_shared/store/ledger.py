"""The ledger: attempts are written ahead of their calls, answered by their ids, and summed up as what tasks cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, case, func, insert, or_, select, update

from tierq_shared.caps import Cap, scopes_of
from tierq_shared.money import Usage
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, tasks


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An attempt on its way into the ledger, before its call."""

    id: str
    task_id: str
    epoch: int
    ordinal: int
    tier: str
    deployment: str
    provider: str
    model: str
    lane: str
    reserved_nusd: int | None
    price_version: str | None
    caps: tuple[Cap, ...] = ()
    """Whose budgets it is reserved in."""
    base_url: str | None = None
    """Where it is sent, for those who watch; no part of its row."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How one call ended."""

    id: str
    outcome: str
    latency_ms: int
    http_status: int | None = None
    request_id: str | None = None
    usage: Usage | None = None
    cost_nusd: int | None = None
    error: str | None = None
    response_id: str | None = None
    """The answer's own id, for those who watch; no part of its row."""
    is_capped: bool = False
    """It was reserved in budgets, which are settled with it."""


_ALREADY = select(attempts.c.id).where(attempts.c.id.in_(bindparam("ids", expanding=True)))


_ANSWER = (
    update(attempts)
    # A sweeper may have called it unknown meanwhile; what was answered still goes into the ledger, and only once.
    .where(attempts.c.id == bindparam("attempt"))
    .where(or_(attempts.c.outcome == "started", attempts.c.outcome == "unknown"))
    .values(
        outcome=bindparam("new_outcome"),
        http_status=bindparam("new_status"),
        request_id=bindparam("new_request_id"),
        latency_ms=bindparam("new_latency"),
        input_tokens=bindparam("new_input"),
        cached_tokens=bindparam("new_cached"),
        cache_write_tokens=bindparam("new_cache_write"),
        output_tokens=bindparam("new_output"),
        reasoning_tokens=bindparam("new_reasoning"),
        cost_nusd=bindparam("new_cost"),
        error=bindparam("new_error"),
    )
)


def insert_attempts(
    connection: Connection, worker_id: str, new: Sequence[NewAttempt], begins: datetime | None = None
) -> None:
    """Writes attempts ahead of their calls. ``begins``: the time by which their budgets were chosen."""
    at = connection.execute(select(now())).scalar_one()
    connection.execute(insert(attempts), [attempt_row(attempt, worker_id, at, begins) for attempt in new])


def attempt_row(attempt: NewAttempt, worker_id: str, at: datetime, begins: datetime | None = None) -> dict[str, Any]:
    """An attempt as its row, before its call. ``at``: the database's time."""
    scopes = scopes_of(attempt.caps, begins or at) if attempt.caps else None
    return {
        "id": attempt.id,
        "task_id": attempt.task_id,
        "epoch": attempt.epoch,
        "ordinal": attempt.ordinal,
        "tier": attempt.tier,
        "deployment": attempt.deployment,
        "provider": attempt.provider,
        "model": attempt.model,
        "lane": attempt.lane,
        "outcome": "started",
        "started_at": at,
        "reserved_nusd": attempt.reserved_nusd,
        "price_version": attempt.price_version,
        "budgets": orjson.dumps(scopes).decode() if scopes else None,
        "worker_id": worker_id,
    }


def committed_attempts(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these attempts the ledger holds: how a commit whose connection broke is known to have succeeded."""
    return set(connection.execute(_ALREADY, {"ids": list(ids)}).scalars())


def answer(connection: Connection, results: Sequence[AttemptResult]) -> None:
    """Writes how calls ended, whoever owns their tasks by now."""
    if results:
        connection.execute(_ANSWER, [_answer_row(result) for result in results])


def _answer_row(result: AttemptResult) -> dict[str, Any]:
    usage = result.usage
    return {
        "attempt": result.id,
        "new_outcome": result.outcome,
        "new_status": result.http_status,
        "new_request_id": result.request_id,
        "new_latency": result.latency_ms,
        "new_input": usage.input_tokens if usage else None,
        "new_cached": usage.cached_tokens if usage else None,
        "new_cache_write": usage.cache_write_tokens if usage else None,
        "new_output": usage.output_tokens if usage else None,
        "new_reasoning": usage.reasoning_tokens if usage else None,
        "new_cost": result.cost_nusd,
        "new_error": result.error,
    }


_PRICED = case((func.count() == func.count(attempts.c.cost_nusd), func.coalesce(func.sum(attempts.c.cost_nusd), 0)))


# Task by task: of `task_id IN (…)` PostgreSQL's planner expects half the ledger while the table has no statistics.
_LEDGER_COST = select(_PRICED).where(attempts.c.task_id == tasks.c.id).scalar_subquery()


def ledger_costs(connection: Connection, task_ids: set[str]) -> dict[str, int | None]:
    """What tasks have cost by their attempts; None where any of those is unpriced."""
    if not task_ids:
        return {}
    statement = select(tasks.c.id, _LEDGER_COST).where(tasks.c.id.in_(sorted(task_ids)))
    return {row[0]: row[1] for row in connection.execute(statement)}


def recompute_costs(connection: Connection, task_ids: Sequence[str]) -> None:
    """Sets tasks' costs to the sum of their attempts'; NULL where any of those is unpriced."""
    connection.execute(update(tasks).where(tasks.c.id.in_(task_ids)).values(cost_nusd=_LEDGER_COST))
