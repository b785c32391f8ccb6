"""The result cache: answers that identical tasks are given for nothing, and the tasks that are about to make one.

An entry belongs to the task that makes its answer, and is judged by that task's own row: until the answer is there it
holds others up only while that task runs on the entry's tier. So nobody has to take an entry back: a task that failed,
was queued again, escalated or is gone leaves one that the next identical task takes over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Float, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tierq_shared.errors import PayloadLocked
from tierq_shared.store import sealed
from tierq_shared.store.clock import now
from tierq_shared.store.inputs import drop_unkept
from tierq_shared.store.tables import cache, payloads, tasks
from tierq_shared.store.tallies import add_to_tallies

LIFE_S = 30 * 86_400.0
"""How long an answer is kept for others; longer where the task that gave it allows older ones itself."""

SOONEST_S = 0.25
_LATEST_S = 5.0
"""Who waits for an identical task looks again after as long as that one has run so far, within these bounds. So an
answer is found after at most twice the time of its call, and a long call is not asked about all the time."""

_SLICE = 500


def max_age_s(constraints: str | None) -> float | None:
    """How old an answer may be that a task is given, in seconds; None where it wants one of its own."""
    # Most tasks have no constraints, and most of those that have say nothing of this.
    if constraints is None or '"cache"' not in constraints:
        return None
    allowed = orjson.loads(constraints).get("cache")
    return LIFE_S if allowed is True else allowed


def key_of(payload_hash: str, tier: str) -> str:
    """What identical tasks share. The payload's hash is over the spec, with its prompt version, and the input."""
    return hashlib.sha256(f"{payload_hash}:{tier}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer that is there."""

    task_id: str
    """The task that it was made for."""
    output: str = field(repr=False)
    confidence: float | None


@dataclass(slots=True)
class Shelf:
    """What the cache says of the tasks of one claim. Those that do not allow it are unknown to it."""

    answers: dict[str, Stored] = field(default_factory=dict)
    """By the task that is given it."""
    _keys: dict[str, str] = field(default_factory=dict)
    """Of tasks that wait for an answer, or are to make one."""
    _waits: dict[str, float] = field(default_factory=dict)
    """Seconds, by the key that another claim's task makes the answer of."""
    _owners: dict[str, str] = field(default_factory=dict)
    """Tasks of this claim that its entries belong to, by key."""
    _callers: dict[str, str] = field(default_factory=dict)
    """Tasks of this claim that are called, by key."""

    def wait_of(self, task_id: str) -> float | None:
        """Seconds after which a task may find an answer that another one makes; None where it may be called itself."""
        key = self._keys.get(task_id)
        if key is None:
            return None
        return SOONEST_S if key in self._callers else self._waits.get(key)

    def calls(self, task_id: str) -> None:
        """A task of this claim is called: identical ones wait for it."""
        if task_id in self._keys:
            self._callers[self._keys[task_id]] = task_id

    def write(self, connection: Connection) -> None:
        """Entries go to those who are called: the first of some identical tasks may have found no deployment."""
        moved = [
            {"entry": key, "caller": caller}
            for key, caller in sorted(self._callers.items())
            if self._owners.get(key) != caller
        ]
        if moved:
            connection.execute(_MOVE, moved)


_MOVE = update(cache).where(cache.c.key == bindparam("entry")).values(task_id=bindparam("caller"))

_ENTRIES = (
    select(
        cache.c.key,
        cache.c.task_id,
        cache.c.is_ready,
        cache.c.created_at,
        cache.c.expires_at,
        tasks.c.state,
        tasks.c.tier,
        tasks.c.confidence,
        sealed.as_stored(payloads.c.output),
    )
    .outerjoin(tasks, tasks.c.id == cache.c.task_id)
    .outerjoin(payloads, payloads.c.task_id == cache.c.task_id)
    .where(cache.c.key.in_(bindparam("keys", expanding=True)))
)


def look_up(connection: Connection, tier: str, rows: Sequence[Any]) -> Shelf:
    """What the cache has for locked tasks of a claim on this tier. Makes no query where none of them allows it.

    Of identical tasks without an answer one becomes the owner of their entry, whoever claims the others.
    """
    shelf = Shelf()
    allowed = {row.id: age for row in rows if (age := max_age_s(row.constraints)) is not None}
    if not allowed:
        return shelf
    keys = {row.id: key_of(row.payload_hash, tier) for row in rows if row.id in allowed}
    found = {row.key: row for row in connection.execute(_ENTRIES, {"keys": sorted(set(keys.values()))})}
    wanted: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.id not in allowed:
            continue
        key, at = keys[row.id], row.claimed_at
        entry = found.get(key)
        if entry is not None and _is_answer(entry, at, allowed[row.id]) and (output := _opened(entry.output)):
            shelf.answers[row.id] = Stored(entry.task_id, output, entry.confidence)
            continue
        shelf._keys[row.id] = key
        if entry is not None and _is_under_way(entry, tier, row.id):
            shelf._waits[key] = min(_LATEST_S, max(SOONEST_S, (at - entry.created_at).total_seconds()))
        else:
            wanted.setdefault(key, _entry_row(key, row.id, at, allowed[row.id]))
    _own(connection, shelf, wanted, found)
    return shelf


def _is_answer(entry: Any, at: datetime, age_s: float) -> bool:
    """Whether an entry has an answer that is no older than this, nor erased since."""
    is_there = entry.is_ready and entry.state == "succeeded" and entry.output is not None
    is_kept = entry.expires_at is None or entry.expires_at > at
    return is_there and is_kept and entry.created_at >= at - timedelta(seconds=age_s)


def _opened(stored: str) -> str | None:
    """An output; None where it is encrypted with a key that this worker does not have: another call has to be made."""
    try:
        return sealed.unseal(stored)
    except PayloadLocked:
        return None


def _is_under_way(entry: Any, tier: str, task_id: str) -> bool:
    """Whether another task is about to give the answer.

    Not one that is queued again: it may wait for as long as its own cap, priority or deployments want.
    """
    return not entry.is_ready and entry.state == "running" and entry.tier == tier and entry.task_id != task_id


def _entry_row(key: str, task_id: str, at: datetime, age_s: float) -> dict[str, Any]:
    expires_at = at + timedelta(seconds=max(LIFE_S, age_s))
    return {"key": key, "task_id": task_id, "is_ready": False, "created_at": at, "expires_at": expires_at}


def _own(connection: Connection, shelf: Shelf, wanted: Mapping[str, dict[str, Any]], found: Mapping[str, Any]) -> None:
    """Makes entries, and takes over those that are of no use; where others were faster, their tasks are waited for."""
    if not wanted:
        return
    void = sorted({found[key].task_id for key in wanted if key in found})
    rows = [wanted[key] for key in sorted(wanted)]
    owned = set(connection.execute(_upsert(connection.dialect.name, rows, void)).scalars())
    shelf._owners = {key: wanted[key]["task_id"] for key in owned}
    shelf._waits |= dict.fromkeys(wanted.keys() - owned, SOONEST_S)


def _upsert(dialect_name: str, rows: Sequence[Mapping[str, Any]], void: Sequence[str]) -> Any:
    """In the order of ``rows``. Only entries that still belong to one of ``void`` are taken over."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    statement = dialect.insert(cache).values(list(rows))
    given = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["key"],
        set_={name: given[name] for name in ("task_id", "is_ready", "created_at", "expires_at")},
        where=cache.c.task_id.in_(void),
    ).returning(cache.c.key)


_KEEP = (
    update(cache)
    .where(cache.c.key == bindparam("entry"), cache.c.task_id == bindparam("owner"))
    .values(is_ready=True, created_at=now(), expires_at=now(bindparam("life", type_=Float)))
)


def keep_answers(connection: Connection, succeeded: Sequence[Any]) -> None:
    """Locked tasks that succeed in this transaction: from its commit on, identical ones are given their answers."""
    ages = {row.id: max_age_s(row.constraints) for row in succeeded}
    entries = [
        {"entry": key_of(row.payload_hash, row.tier), "owner": row.id, "life": max(LIFE_S, age)}
        for row in succeeded
        if (age := ages[row.id]) is not None
    ]
    if entries:
        connection.execute(_KEEP, sorted(entries, key=lambda entry: str(entry["entry"])))


_END = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(
        state="succeeded",
        cached_from=bindparam("source"),
        confidence=bindparam("new_confidence"),
        error_code=None,
        finished_at=now(),
        chunk_id=None,
        not_before=None,
    )
)

_OUTPUT = (
    update(payloads).where(payloads.c.task_id == bindparam("task")).values(output=bindparam("new_output"), error=None)
)


def give_answers(connection: Connection, worker_id: str, answered: Sequence[tuple[Any, Stored]]) -> None:
    """Ends tasks of a claim with stored answers. They cost what their earlier calls cost: mostly nothing."""
    if not answered:
        return
    connection.execute(
        _END,
        [{"task": task.id, "source": stored.task_id, "new_confidence": stored.confidence} for task, stored in answered],
    )
    connection.execute(_OUTPUT, [{"task": task.id, "new_output": stored.output} for task, stored in answered])
    drop_unkept(connection, [task.id for task, _ in answered])
    add_to_tallies(
        connection, worker_id, ((task.batch_id, task.tier, "succeeded", task.cost_nusd) for task, _ in answered)
    )


def forget_expired(connection: Connection) -> int:
    """Deletes a slice of entries whose time is over; how many. Those that a claim holds just now are left to it."""
    expired = select(cache.c.key).where(cache.c.expires_at < now()).order_by(cache.c.key).limit(_SLICE)
    keys = list(connection.execute(expired.with_for_update(skip_locked=True)).scalars())
    if keys:
        connection.execute(delete(cache).where(cache.c.key.in_(keys)))
    return len(keys)
