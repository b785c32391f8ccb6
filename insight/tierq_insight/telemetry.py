"""The ledger as telemetry: one record an attempt, streamed in the order of the calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from tierq_shared.money import usd
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

FIELDS = (
    "taskId",
    "taskType",
    "modelSelected",
    "tier",
    "deployment",
    "outcome",
    "tokens",
    "inputTokens",
    "outputTokens",
    "cost",
    "latency",
    "timestamp",
    "batchId",
    "attemptId",
)
"""What a record holds: tokens are input and output together, cost is USD as exact text, latency is milliseconds."""

INTEGERS = ("tokens", "inputTokens", "outputTokens", "latency")

_PAGE = 1_000


def records(store: Store, *, batch_id: str | None = None, since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every attempt, or those of a batch, or those that began at or after a time, oldest first.

    What is not known of an attempt (the price of its model, the tokens of a call that was not answered) is None.
    """
    statement = _statement(batch_id, since)
    last = ""
    while True:
        # Pages, each in a transaction of its own: one long read would keep SQLite's log from being folded in.
        with store.reading() as connection:
            page = connection.execute(statement.where(attempts.c.id > last).limit(_PAGE)).all()
        for row in page:
            yield _record(row)
        if len(page) < _PAGE:
            return
        last = page[-1].id


def _statement(batch_id: str | None, since: datetime | None) -> Select[Any]:
    # Ids are made in the order of time, so they are both the order and the bookmark.
    statement = (
        select(attempts, tasks.c.type, tasks.c.batch_id)
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .order_by(attempts.c.id)
    )
    if batch_id is not None:
        statement = statement.where(tasks.c.batch_id == batch_id)
    if since is not None:
        statement = statement.where(attempts.c.started_at >= since)
    return statement


def _record(row: Any) -> dict[str, Any]:
    cost = usd(row.cost_nusd)
    known = row.input_tokens is not None and row.output_tokens is not None
    return {
        "taskId": row.task_id,
        "taskType": row.type,
        "modelSelected": row.model,
        "tier": row.tier,
        "deployment": row.deployment,
        "outcome": row.outcome,
        "tokens": row.input_tokens + row.output_tokens if known else None,
        "inputTokens": row.input_tokens,
        "outputTokens": row.output_tokens,
        "cost": None if cost is None else f"{cost:f}",
        "latency": row.latency_ms,
        "timestamp": row.started_at.isoformat(),
        "batchId": row.batch_id,
        "attemptId": row.id,
    }
