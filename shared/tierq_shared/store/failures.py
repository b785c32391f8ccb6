"""What a task that no deployment could answer is told: every call that was made for it, over all its claims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tierq_shared.store.tables import attempts

ALL_FAILED = "all_deployments_failed"


def calls_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, str]:
    """For each task its calls in order, as `3 calls were made: mini: overloaded (503), …`. Asks the ledger: a worker
    knows only the calls of its own claim."""
    if not task_ids:
        return {}
    found: dict[str, list[str]] = defaultdict(list)
    rows = select(attempts.c.task_id, attempts.c.deployment, attempts.c.outcome, attempts.c.http_status)
    of_tasks = rows.where(attempts.c.task_id.in_(task_ids)).order_by(attempts.c.task_id, attempts.c.ordinal)
    for row in connection.execute(of_tasks):
        found[row.task_id].append(_call(row))
    return {
        task_id: f"{len(calls)} call{'s were' if len(calls) > 1 else ' was'} made: {', '.join(calls)}"
        for task_id, calls in found.items()
    }


def calls_in(message: str) -> list[str] | None:
    """The calls that such a message lists; None where it is another one."""
    count, made, calls = message.partition(" made: ")
    return calls.split(", ") if made and count.split(" ", 1)[-1] in ("calls were", "call was") else None


def _call(row: Any) -> str:
    status = f" ({row.http_status})" if row.http_status else ""
    return f"{row.deployment}: {row.outcome}{status}"
