"""`tierq purge`: erases what is private about every task that ended before a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from tierq_shared.ids import first_of
from tierq_shared.outcomes import TERMINAL
from tierq_shared.store import actions
from tierq_shared.store.connection import Store
from tierq_shared.store.erasing import (
    HAS_TEXTS,
    SLICE,
    check_tables,
    erase_outputs,
    scrub_files,
    window_end,
)
from tierq_shared.store.inputs import drop_inputs
from tierq_shared.store.tables import payloads, tasks

_CLOCKS_DIFFER = timedelta(days=1)
"""By how much a producer's clock, which ids are made by, may be ahead of the database's."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What was erased."""

    tasks: int = 0
    cache_entries: int = 0

    def __add__(self, other: Purged) -> Purged:
        return Purged(self.tasks + other.tasks, self.cache_entries + other.cache_entries)


def count(store: Store, before: datetime) -> int:
    """How many tasks that ended before a time have anything private left."""
    found = 0
    for after, last in _windows(store, before):
        with store.reading() as connection:
            ended = select(func.count()).select_from(_joined()).where(*_ended(before, after, last))
            found += connection.execute(ended).scalar_one()
    return found


def purge(store: Store, before: datetime, tell: Callable[[int], None] = lambda _tasks: None) -> Purged:
    """Erases inputs, outputs, cached answers and quoted errors of tasks that ended before a time.

    Stopped half-way, it goes on with what is left when it is run again. ``tell`` hears how many tasks are done.

    Raises:
        SchemaMismatch: the tables are of an older release.
    """
    check_tables(store)
    done = Purged()
    try:
        for after, last in _windows(store, before):
            while (erased := store.write(partial(_erase_slice, before=before, after=after, last=last))).tasks:
                done += erased
                tell(done.tasks)
    finally:
        store.write(partial(_record, before=before, done=done))
    scrub_files(store)
    return done


def _windows(store: Store, before: datetime) -> Iterator[tuple[str, str]]:
    """Ids of tasks between two, one excluded and one included, that may have ended before a time."""
    after, until = "", first_of(before + _CLOCKS_DIFFER)
    while True:
        with store.reading() as connection:
            last = window_end(connection, payloads.c.task_id, after, until)
        if last is None:
            return
        yield after, last
        after = last


def _joined() -> Any:
    return payloads.join(tasks, tasks.c.id == payloads.c.task_id)


def _ended(before: datetime, after: str, last: str) -> list[Any]:
    # Said of both sides of the join, else PostgreSQL's planner goes through all tasks up to the last one.
    within = [payloads.c.task_id > after, payloads.c.task_id <= last, tasks.c.id > after, tasks.c.id <= last]
    return [*within, HAS_TEXTS, tasks.c.state.in_(TERMINAL), tasks.c.finished_at < before]


def _erase_slice(connection: Connection, before: datetime, after: str, last: str) -> Purged:
    """Erases the next tasks of a window."""
    rows = select(tasks.c.id).select_from(_joined()).where(*_ended(before, after, last))
    held = rows.order_by(tasks.c.id).limit(SLICE).with_for_update(of=tasks)
    ids = list(connection.execute(held).scalars())
    if not ids:
        return Purged()
    drop_inputs(connection, ids)
    return Purged(len(ids), erase_outputs(connection, ids))


def _record(connection: Connection, before: datetime, done: Purged) -> None:
    counts = {"tasks": done.tasks, "cache_entries": done.cache_entries}
    actions.record(connection, "purge", f"ended before {before.isoformat(timespec='seconds')}", counts)
