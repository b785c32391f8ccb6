"""Forgets tasks by their key or by a tag, in whatever batch and state they are, with their shadows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Column, ColumnElement, Connection, bindparam, select, update

from tierq_shared import checks
from tierq_shared.errors import InvalidTask
from tierq_shared.ids import new_id
from tierq_shared.outcomes import TERMINAL
from tierq_shared.store import actions, shadows
from tierq_shared.store.connection import Store
from tierq_shared.store.erasing import (
    LAST_ID,
    SLICE,
    check_tables,
    erase_outputs,
    scrub_files,
    window_end,
)
from tierq_shared.store.inputs import drop_inputs
from tierq_shared.store.known_tasks import by_keys
from tierq_shared.store.submission import database_now
from tierq_shared.store.sweeps import end_tasks
from tierq_shared.store.tables import batches, evidence, tasks
from tierq_shared.store.tallies import finish_batches

_TALLY = "forget"
"""The `worker_id` under which tasks are tallied that had not ended."""

_MESSAGE = "it was forgotten before it had ended"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten."""

    tasks: int = 0
    """With their shadows."""
    cancelled: int = 0
    """Those of them that had not ended."""
    cache_entries: int = 0

    def __add__(self, other: Forgotten) -> Forgotten:
        return Forgotten(
            self.tasks + other.tasks, self.cancelled + other.cancelled, self.cache_entries + other.cache_entries
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be forgotten: every task with this key, or with this tag, its own or its batch's."""

    key: str | None = None
    tag: tuple[str, str] | None = None
    alias: str = ""
    """What stands in the place of its key in evidence, where answers are paired by it."""

    @classmethod
    def of(cls, key: object = None, tag: object = None) -> Subject:
        """Exactly one of both.

        Raises:
            InvalidTask: it is none, or there are both or neither.
        """
        if (key is None) == (tag is None):
            raise InvalidTask("name what is to be forgotten by key=… or by tag=…, one of them")
        if tag is None:
            return cls(key=checks.key(key), alias=new_id())
        name, _, value = checks.text(tag, "tag").partition("=")
        if not name.strip() or not value.strip():
            raise InvalidTask("is no tag: write it as name=value", field="tag")
        return cls(tag=(name.strip(), value.strip()))

    @property
    def words(self) -> str:
        """For the record of actions, which must not keep what is to be forgotten."""
        return "by key" if self.tag is None else f"by tag {self.tag[0]}"


def forget(store: Store, subject: Subject) -> Forgotten:
    """Erases inputs, outputs, cached answers and quoted errors of all matching tasks; ends those that have not ended.

    What they cost, and the figures of their calls, stay. Stopped half-way, it goes on when it is run again.

    Raises:
        SchemaMismatch: the tables are of an older release.
    """
    check_tables(store)
    done = Forgotten()
    try:
        for ids in _found(store, subject):
            done += store.write(partial(_forget, ids=ids, subject=subject))
    finally:
        store.write(partial(_record, subject=subject, done=done))
    scrub_files(store)
    return done


# Finding them: a look at every batch, and by a tag at every task.


def _found(store: Store, subject: Subject) -> Iterator[list[str]]:
    """Ids of matching tasks, a slice at a time."""
    if subject.key is not None:
        yield from _windowed(store, batches.c.id, partial(_by_key, key=subject.key))
        yield from _windowed(store, evidence.c.id, partial(_by_sample, key=subject.key))
    if subject.tag is not None:
        for batch_ids in _windowed(store, batches.c.id, partial(_batches_by_tag, tag=subject.tag)):
            for batch_id in batch_ids:
                yield from _of_batch(store, batch_id, subject.tag)
        yield from _windowed(store, tasks.c.id, partial(_by_tag, tag=subject.tag))


def _windowed(store: Store, ids: Column[str], find: Any) -> Iterator[list[str]]:
    """What is found in a table, looked through window by window, in slices."""
    after = ""
    while True:
        with store.reading() as connection:
            last = window_end(connection, ids, after, LAST_ID)
            if last is None:
                return
            found = iter(list(find(connection, after=after, last=last)))
        while part := list(islice(found, SLICE)):
            yield part
        after = last


_HAS_KEY = select(tasks.c.id).where(tasks.c.batch_id == batches.c.id, tasks.c.key == bindparam("key"))
_PROBED = (
    # One index probe a batch: there is no index on keys alone, and no planner must look for one in all tasks.
    select(_HAS_KEY.scalar_subquery().label("id"))
    .where(batches.c.id > bindparam("after"), batches.c.id <= bindparam("last"))
    .subquery()
)
_BY_KEY = select(_PROBED.c.id).where(_PROBED.c.id.is_not(None))


def _by_key(connection: Connection, key: str, after: str, last: str) -> list[str]:
    return list(connection.execute(_BY_KEY, {"key": key, "after": after, "last": last}).scalars())


def _by_sample(connection: Connection, key: str, after: str, last: str) -> list[str]:
    """Tasks of evaluations, whose own keys are others than their samples'."""
    judged = select(evidence.c.task_id).where(evidence.c.id > after, evidence.c.id <= last, evidence.c.sample == key)
    return list(connection.execute(judged).scalars())


def _batches_by_tag(connection: Connection, tag: tuple[str, str], after: str, last: str) -> list[str]:
    rows = select(batches.c.id, batches.c.tags).where(batches.c.id > after, batches.c.id <= last)
    found = connection.execute(rows.where(_may_have(batches.c.tags, tag)))
    return [row.id for row in found if _value(row.tags, tag[0]) == tag[1]]


def _of_batch(store: Store, batch_id: str, tag: tuple[str, str]) -> Iterator[list[str]]:
    """The tasks of a batch that has the tag, but for those that have another value of their own for it."""
    position = -1
    while True:
        rows = select(tasks.c.id, tasks.c.position, tasks.c.tags).where(tasks.c.batch_id == batch_id)
        page = rows.where(tasks.c.position > position).order_by(tasks.c.position).limit(SLICE)
        with store.reading() as connection:
            found = connection.execute(page).all()
        if not found:
            return
        yield [row.id for row in found if _value(row.tags, tag[0]) in (None, tag[1])]
        position = found[-1].position


def _by_tag(connection: Connection, tag: tuple[str, str], after: str, last: str) -> list[str]:
    rows = select(tasks.c.id, tasks.c.tags).where(tasks.c.id > after, tasks.c.id <= last)
    found = connection.execute(rows.where(_may_have(tasks.c.tags, tag)))
    return [row.id for row in found if _value(row.tags, tag[0]) == tag[1]]


def _may_have(column: Column[Any], tag: tuple[str, str]) -> ColumnElement[bool]:
    """Tags are JSON without spaces. What only looks like the tag is told apart when it has been read."""
    return column.contains(orjson.dumps(dict([tag])).decode()[1:-1], autoescape=True)


def _value(document: str | None, name: str) -> str | None:
    return orjson.loads(document).get(name) if document else None


# Forgetting them.

_WANTED = (
    tasks.c.id,
    tasks.c.batch_id,
    tasks.c.position,
    tasks.c.tier,
    tasks.c.state,
    tasks.c.cost_nusd,
    tasks.c.created_at,
    tasks.c.finished_at,
)


def _forget(connection: Connection, ids: Sequence[str], subject: Subject) -> Forgotten:
    """Forgets a slice in one transaction."""
    own = _hold(connection, ids)
    repeated = _hold(connection, _shadows_of(connection, own))
    return _erase(connection, own, subject) + _erase(connection, repeated, subject)


def _hold(connection: Connection, ids: Sequence[str]) -> Sequence[Any]:
    """Locks those of the tasks that are not forgotten yet."""
    rows = select(*_WANTED).where(tasks.c.id.in_(ids), tasks.c.payload_hash != "")
    return connection.execute(rows.order_by(tasks.c.id).with_for_update()).all()


def _erase(connection: Connection, rows: Sequence[Any], subject: Subject) -> Forgotten:
    if not rows:
        return Forgotten()
    ids = [row.id for row in rows]
    drop_inputs(connection, ids)
    entries = erase_outputs(connection, ids)
    waiting = [row for row in rows if row.state not in TERMINAL]
    _end(connection, waiting)
    # A guess at the input could be checked by its hash.
    nameless = {"payload_hash": ""} | ({"key": None} if subject.key is not None else {})
    connection.execute(update(tasks).where(tasks.c.id.in_(ids)).values(**nameless))
    if subject.key is not None:
        named = update(evidence).where(evidence.c.task_id.in_(ids), evidence.c.sample == subject.key)
        connection.execute(named.values(sample=subject.alias))
    return Forgotten(len(ids), len(waiting), entries)


def _end(connection: Connection, waiting: Sequence[Any]) -> None:
    """Ends tasks. A call under way goes on, and is charged when it ends; what it answers comes too late."""
    if not waiting:
        return
    end_tasks(connection, _TALLY, waiting, "cancelled", "cancelled", _MESSAGE)
    ended = update(tasks).where(tasks.c.id.in_([row.id for row in waiting]))
    connection.execute(ended.values(epoch=tasks.c.epoch + 1, not_before=None))
    finish_batches(connection, {row.batch_id for row in waiting})


def _shadows_of(connection: Connection, rows: Sequence[Any]) -> list[str]:
    """Tasks that repeat these. A shadow has its task's id for a key, in the batch of the day on which that ended."""
    if not rows:
        return []
    now = database_now(connection)
    first = min(row.created_at for row in rows).date()
    last = max(row.finished_at or now for row in rows).date()
    keys = [f"{shadows.KEY}{day}" for day in _days(first, last + timedelta(days=1))]
    of_days = select(batches.c.id).where(batches.c.key.in_(keys))
    task_ids = [row.id for row in rows]
    return [
        found.id
        for batch_id in connection.execute(of_days).scalars().all()
        for found in by_keys(connection, batch_id, task_ids)
    ]


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def _record(connection: Connection, subject: Subject, done: Forgotten) -> None:
    counts = {"tasks": done.tasks, "cancelled": done.cancelled, "cache_entries": done.cache_entries}
    actions.record(connection, "forget", subject.words, counts)
