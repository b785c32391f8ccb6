"""The tasks of a batch that a submission may meet again: by key, and in a resumed batch by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, func, select, text

from tierq_shared.errors import KeyConflict
from tierq_shared.ids import new_id
from tierq_shared.store.tables import tasks


class Keyed(Protocol):
    """What is known of a new task here."""

    @property
    def key(self) -> str | None: ...
    @property
    def payload_hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A task's place in its batch: a new one, or the one that it has already."""

    id: str
    position: int
    is_new: bool


class Known:
    """The tasks of a batch that a slice may meet again: by key, and in a resumed batch by position.

    A new task without a key takes its index as its position, by which it is known when it comes again. One with a key
    takes the next free position, which is never beyond its index: so both fit, also where keys are repeated.
    """

    def __init__(self, connection: Connection, batch_id: str, first: int, new: Sequence[Keyed], *, fresh: bool) -> None:
        self._fresh = fresh
        self._by_key: dict[str, tuple[str, int, str]] = {}
        self._by_position: dict[int, tuple[str, int, str]] = {}
        self._next = first
        keys = sorted(task.key for task in new if task.key is not None)
        if keys or not fresh:
            self._look_up(connection, batch_id, first, len(new), keys)

    def _look_up(self, connection: Connection, batch_id: str, first: int, count: int, keys: list[str]) -> None:
        found = by_keys(connection, batch_id, keys) if keys else []
        if not self._fresh:
            found += _by_positions(connection, batch_id, first, first + count)
        for id_, position, key, payload_hash in found:
            if key is not None:
                self._by_key[key] = (id_, position, payload_hash)
            self._by_position[position] = (id_, position, payload_hash)
        last = connection.execute(select(func.max(tasks.c.position)).where(tasks.c.batch_id == batch_id)).scalar_one()
        self._next = 0 if last is None else last + 1

    def place(self, index: int, task: Keyed) -> Placed:
        met = self._by_key.get(task.key) if task.key is not None else self._by_position.get(index)
        if met is not None:
            id_, position, payload_hash = met
            if payload_hash != task.payload_hash:
                what = f"key {task.key!r}" if task.key is not None else f"position {index}"
                raise KeyConflict(
                    f"task {index}: {what} is in use in this batch with another payload: give it a new key"
                )
            return Placed(id_, position, is_new=False)
        placed = Placed(new_id(), self._next if task.key is not None else index, is_new=True)
        self._next = max(self._next, placed.position + 1)
        self._by_position[placed.position] = (placed.id, placed.position, task.payload_hash)
        if task.key is not None:
            self._by_key[task.key] = (placed.id, placed.position, task.payload_hash)
        return placed


_KNOWN = (tasks.c.id, tasks.c.position, tasks.c.key, tasks.c.payload_hash)

# One index probe a key. With `key IN (…)` PostgreSQL's planner reads the whole batch by its positions while the table
# has no statistics, as a new one: measured, that is quadratic in the size of the batch.
_PROBE = text(
    """
    SELECT found.id, found.position, found.key, found.payload_hash
    FROM unnest(CAST(:keys AS text[])) AS wanted (key)
    CROSS JOIN LATERAL (
        SELECT id, position, key, payload_hash FROM tierq_task WHERE batch_id = :batch AND key = wanted.key LIMIT 1
    ) AS found
    """
)


def by_keys(connection: Connection, batch_id: str, keys: list[str]) -> list[Any]:
    """A batch's tasks with these keys."""
    if connection.dialect.name == "postgresql":
        return list(connection.execute(_PROBE, {"keys": keys, "batch": batch_id}))
    return list(connection.execute(select(*_KNOWN).where(tasks.c.batch_id == batch_id, tasks.c.key.in_(keys))))


def _by_positions(connection: Connection, batch_id: str, first: int, end: int) -> list[Any]:
    within = select(*_KNOWN).where(tasks.c.batch_id == batch_id, tasks.c.position >= first, tasks.c.position < end)
    return list(connection.execute(within))
