"""Inputs that are not kept: they go with the commit that ends their task."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from tierq_shared.store.tables import payloads, tasks

_SAYS_NO = '"store_input":false'
"""How a task's constraints say it. They are JSON; in what a user wrote there, quotes have a backslash before them."""


def is_kept(constraints: str | None) -> bool:
    """Whether a task's input stays when it has ended."""
    return constraints is None or _SAYS_NO not in constraints


def drop_inputs(connection: Connection, task_ids: Sequence[str]) -> None:
    """Erases inputs, whatever their tasks say."""
    if task_ids:
        connection.execute(update(payloads).where(payloads.c.task_id.in_(task_ids)).values(input=None))


def drop_unkept(connection: Connection, task_ids: Sequence[str]) -> None:
    """Erases the inputs of those of the tasks that do not want them kept."""
    rows = select(tasks.c.id, tasks.c.constraints).where(tasks.c.id.in_(task_ids), tasks.c.constraints.is_not(None))
    drop_inputs(connection, [row.id for row in connection.execute(rows) if not is_kept(row.constraints)])
