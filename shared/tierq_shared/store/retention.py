"""Keeps `[retention]`: erases what has been kept long enough, oldest first, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, delete, insert, or_, select, true, update

from tierq_shared.ids import earlier, first_of
from tierq_shared.outcomes import TERMINAL
from tierq_shared.settings import RetentionSettings
from tierq_shared.store.clock import now
from tierq_shared.store.erasing import SLICE, erase_outputs, window_end
from tierq_shared.store.inputs import drop_inputs
from tierq_shared.store.submission import database_now
from tierq_shared.store.tables import attempts, is_word, payloads, retention, tasks

REST_S = 3_600.0
"""How long a pass that has come to its end is followed by none: a task may be kept longer by this."""

SETTLED_S = 3_600.0
"""How long the ledger of a task is left alone in any case: calls under way when it ended are charged when they end."""

_LATE_S = 6 * 3_600.0
"""How much later than its id a task may come to be seen: producers' clocks differ, and some transactions are long."""

_LONGEST_S = 100 * 365 * 86_400.0
"""More than any span that means something, and less than a date can be moved by."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of what is kept."""

    ids: Column[str]
    """What is gone through, in the order of age."""
    task_id: Column[str]
    is_there: ColumnElement[bool]
    """Which rows have anything left."""
    erase: Callable[[Connection, Sequence[str]], object]
    """By tasks."""
    least_s: float = 0.0


def _erase_attempts(connection: Connection, task_ids: Sequence[str]) -> None:
    """Those of a task go together, and not while one of them is open: whoever settles it looks for its row."""
    of_tasks = attempts.c.task_id.in_(task_ids)
    open_ = select(attempts.c.task_id).where(of_tasks, is_word(attempts.c.outcome, "started"))
    kept = set(connection.execute(open_).scalars())
    connection.execute(delete(attempts).where(attempts.c.task_id.in_([id_ for id_ in task_ids if id_ not in kept])))


_KINDS = {
    "input": _Kind(payloads.c.task_id, payloads.c.task_id, payloads.c.input.is_not(None), drop_inputs),
    "output": _Kind(
        payloads.c.task_id,
        payloads.c.task_id,
        or_(payloads.c.output.is_not(None), payloads.c.error.is_not(None)),
        erase_outputs,
    ),
    "attempts": _Kind(attempts.c.id, attempts.c.task_id, true(), _erase_attempts, SETTLED_S),
}


def due(connection: Connection, settings: RetentionSettings) -> list[tuple[str, float]]:
    """The kinds that a pass is under way or due for, each with how many seconds it is kept."""
    spans = [(name, span) for name in _KINDS if (span := getattr(settings, name)) is not None]
    if not spans:
        return []
    resting = set(connection.execute(select(retention.c.kind).where(retention.c.passed_at > now(-REST_S))).scalars())
    return [(name, span) for name, span in spans if name not in resting]


def look_again(connection: Connection, task_id: str) -> None:
    """A task, and others after it, are sent again: what they come to is not passed by."""
    passed = or_(retention.c.left_at.is_(None), retention.c.left_at > task_id)
    connection.execute(update(retention).where(passed).values(left_at=task_id))


def erase_slice(connection: Connection, name: str, span_s: float) -> bool:
    """Goes on with the pass of a kind that is due; whether there may be more of it."""
    kind = _KINDS[name]
    place = _place(connection, name)
    ended_by = database_now(connection) - timedelta(seconds=min(max(span_s, kind.least_s), _LONGEST_S))
    last = window_end(connection, kind.ids, place.done_until, first_of(ended_by))
    if last is None:
        _note(connection, name, passed_at=now())
        return False
    rows = connection.execute(_rows(kind, place.done_until, last)).all()
    over = sorted({row.task_id for row in rows if _is_over(row, ended_by)})
    if over:
        kind.erase(connection, _hold_ended(connection, over, ended_by))
    left = next((row.id for row in rows if not _is_over(row, ended_by)), None)
    done_until = rows[-1].id if len(rows) == SLICE else last
    _note(connection, name, done_until=done_until, left_at=place.left_at or left)
    return True


def _place(connection: Connection, name: str) -> Any:
    """How far a kind's pass has come; a new one begins with what the last one had to leave."""
    own = retention.c.kind == name
    found = connection.execute(select(retention).where(own).with_for_update()).one_or_none()
    if found is None:
        connection.execute(insert(retention).values(kind=name, done_until=""))
    elif found.passed_at is not None:
        again = earlier(found.done_until, _LATE_S)
        # All but its last digit: what sorts after that begins with the id itself.
        begin = again if found.left_at is None else min(again, found.left_at[:-1])
        _note(connection, name, done_until=begin, left_at=None, passed_at=None)
    return connection.execute(select(retention).where(own)).one()


def _note(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(retention).where(retention.c.kind == name).values(**values))


def _rows(kind: _Kind, after: str, last: str) -> Any:
    columns = (kind.ids.label("id"), kind.task_id.label("task_id"), tasks.c.state, tasks.c.finished_at)
    # Said of both sides of a join by the same ids, else PostgreSQL's planner goes through all tasks up to the last one.
    of_tasks = [tasks.c.id > after, tasks.c.id <= last] if kind.ids is kind.task_id else []
    return (
        select(*columns)
        .join(tasks, tasks.c.id == kind.task_id)
        .where(kind.ids > after, kind.ids <= last, kind.is_there, *of_tasks)
        .order_by(kind.ids)
        .limit(SLICE)
    )


def _is_over(row: Any, ended_by: datetime) -> bool:
    return row.state in TERMINAL and row.finished_at <= ended_by


def _hold_ended(connection: Connection, task_ids: Sequence[str], ended_by: datetime) -> list[str]:
    """Locks those of the tasks that have not been sent again meanwhile."""
    ended = select(tasks.c.id).where(
        tasks.c.id.in_(task_ids), tasks.c.state.in_(TERMINAL), tasks.c.finished_at <= ended_by
    )
    return list(connection.execute(ended.order_by(tasks.c.id).with_for_update()).scalars())
