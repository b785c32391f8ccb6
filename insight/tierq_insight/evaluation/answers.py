"""How the deployments answered: the ended tasks of an evaluation's batch, with their costs and latencies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, select

from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.outcomes import TaskState
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, payloads, tasks

_PAGE = 500
_ANSWERED = (TaskState.SUCCEEDED, TaskState.FAILED)

_HELD_BACK = frozenset({"cap_reached", "unpriced"})
"""Codes of tasks that failed because a cap let no call be made."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One ended task.

    What was cancelled, expired or held back by a cap says nothing about a deployment, and is none of these.
    """

    task_id: str
    key: str
    tier: str
    model: str | None
    """None where no call was made."""
    failed: bool
    output: Any = field(repr=False)
    """None where it failed."""
    confidence: float | None
    cost_nusd: int | None
    latency_ms: int | None
    """All of its calls, one after the other, without the waits between them; None without calls."""


def answered(store: Store, batch_id: str) -> Iterator[Answered]:
    """The tasks of a batch that came to an answer or failed, in order."""
    position = -1
    while True:
        with store.reading() as connection:
            rows = _page(connection, batch_id, position)
            calls = _calls(connection, [row.id for row in rows])
        for row in rows:
            if row.state in _ANSWERED and row.error_code not in _HELD_BACK:
                yield _answered(row, calls[row.id])
        if len(rows) < _PAGE:
            return
        position = rows[-1].position


def _page(connection: Connection, batch_id: str, position: int) -> Sequence[Any]:
    statement = (
        select(tasks, payloads.c.output)
        .join(payloads, payloads.c.task_id == tasks.c.id)
        .where(tasks.c.batch_id == batch_id, tasks.c.position > position)
        .order_by(tasks.c.position)
        .limit(_PAGE)
    )
    return connection.execute(statement).all()


def _calls(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Any]]:
    statement = select(attempts.c.task_id, attempts.c.lane, attempts.c.model, attempts.c.latency_ms)
    statement = statement.where(attempts.c.task_id.in_(task_ids)).order_by(attempts.c.task_id, attempts.c.ordinal)
    found: dict[str, list[Any]] = defaultdict(list)
    for call in connection.execute(statement):
        found[call.task_id].append(call)
    return found


def _answered(row: Any, calls: Sequence[Any]) -> Answered:
    is_good = row.state == TaskState.SUCCEEDED and row.output is not None
    models = [call.model for call in calls if call.lane not in SECOND_OPINIONS]
    return Answered(
        task_id=row.id,
        key=row.key,
        tier=row.tier,
        model=models[-1] if models else None,
        failed=not is_good,
        output=orjson.loads(row.output) if is_good else None,
        confidence=row.confidence,
        cost_nusd=row.cost_nusd,
        latency_ms=sum(call.latency_ms or 0 for call in calls) if calls else None,
    )
