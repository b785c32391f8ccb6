"""Writes new batches: tasks, payloads, decisions and chunks, a slice at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tierq_shared.errors import BatchAborted, KeyConflict, StoreError
from tierq_shared.ids import new_id
from tierq_shared.policy import Decision
from tierq_shared.queues import CHUNK_SIZE, Chunk
from tierq_shared.specs import SpecBody
from tierq_shared.store.bulk import bulk_insert
from tierq_shared.store.clock import now
from tierq_shared.store.known_tasks import Known, Placed
from tierq_shared.store.tables import batches, chunks, decisions, payloads, specs, tasks


@dataclass(frozen=True, slots=True)
class NewTask:
    """A checked and decided task on its way into the store."""

    key: str | None
    spec: SpecBody
    payload_hash: str
    input_json: str
    decision: Decision
    priority: int
    urgency: str
    tags: str | None
    deadline: datetime | None
    constraints: str | None
    shadow_of: str | None = None
    max_cost_nusd: int | None = None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What is known of a batch before its first task."""

    id: str
    key: str | None
    label: str | None
    tags: str | None
    deadline: datetime | None
    streaming: bool
    quote: str | None = None
    """JSON of the `Quote` that it was made for."""
    max_cost_nusd: int | None = None
    on_cap: str | None = None


@dataclass(slots=True)
class Slice:
    """What writing a slice of tasks came to: the chunks to publish, and the ids in the order of the tasks."""

    chunks: list[Chunk]
    task_ids: list[str]
    added: int


def database_now(connection: Connection) -> datetime:
    return connection.execute(select(now())).scalar_one()


def find_by_key(connection: Connection, key: str) -> Any:
    """The batch that holds an idempotency key, or None."""
    return connection.execute(select(batches).where(batches.c.key == key)).one_or_none()


_OPEN_TRIES = 5


def open_batch(connection: Connection, batch: NewBatch) -> Any:
    """Opens a batch; None, or the batch that holds its key. Whoever gives that one up meanwhile leaves the key to us.

    Raises:
        StoreError: others took the key and gave it up again, time after time.
    """
    # Without a key only its id can be taken: by itself, where its commit succeeded although its connection broke.
    same = batches.c.id == batch.id if batch.key is None else batches.c.key == batch.key
    for _ in range(_OPEN_TRIES):
        if insert_batch(connection, batch, total=None):
            return None
        held = connection.execute(select(batches).where(same)).one_or_none()
        if held is not None:
            return held
    raise StoreError(f"batch key {batch.key!r} is taken and given up by others again and again: submit it once more")


def insert_batch(connection: Connection, batch: NewBatch, *, total: int | None) -> bool:
    """Adds the batch's row: open, or at once running where its total is known. False where its key is taken."""
    at = database_now(connection)
    row = {
        "id": batch.id,
        "key": batch.key,
        "label": batch.label,
        "tags": batch.tags,
        "state": "open" if total is None else "running" if total else "finished",
        "streaming": batch.streaming,
        "total": total,
        "deadline": batch.deadline,
        "quote": batch.quote,
        "max_cost_nusd": batch.max_cost_nusd,
        "on_cap": batch.on_cap,
        "created_at": at,
        "producer_seen_at": at,
        "finished_at": at if total == 0 else None,
    }
    statement = insert_ignoring(connection, batches).values(row).returning(batches.c.id)
    return connection.execute(statement).one_or_none() is not None


def insert_slice(
    connection: Connection, batch_id: str, first_index: int, new: Sequence[NewTask], *, fresh: bool
) -> Slice:
    """Adds a slice of tasks that are not there yet. ``fresh``: the batch cannot hold any of them, unless by their keys.

    The first slice is fresh only in the transaction that adds its batch: after that, others may have been faster.

    Raises:
        BatchAborted: the batch has been given up.
        KeyConflict: a key or position is in use with another payload, or the batch is sealed without these tasks.
    """
    at = database_now(connection)
    held = _hold(connection, batch_id) if first_index or not fresh else None
    sealed = held is not None and held.state != "open"
    fresh = fresh and not sealed
    known = Known(connection, batch_id, first_index, new, fresh=fresh)
    rows = [known.place(first_index + offset, task) for offset, task in enumerate(new)]
    added = [(row, task) for row, task in zip(rows, new, strict=True) if row.is_new]
    if not added:
        return Slice([], [row.id for row in rows], 0)
    if sealed:
        raise _sealed(held, first_index)
    _insert_specs(connection, {task.spec.id: task.spec for _, task in added}.values(), at)
    cut = _cut_chunks(batch_id, added)
    _insert_rows(connection, batch_id, added, {id_: chunk.id for chunk in cut for id_ in chunk.task_ids}, at)
    connection.execute(insert(chunks), [_chunk_row(chunk, at) for chunk in cut])
    return Slice(cut, [row.id for row in rows], len(added))


def _hold(connection: Connection, batch_id: str) -> Any:
    """Locks the batch for its next tasks or its seal, one submitter at a time, and notes that one is at work.

    Raises:
        BatchAborted: it has been given up.
    """
    seen = update(batches).where(batches.c.id == batch_id).values(producer_seen_at=now())
    held = connection.execute(seen.returning(batches.c.state, batches.c.key, batches.c.total)).one()
    if held.state == "aborted":
        raise BatchAborted(f"batch {batch_id} was given up while it was submitted, nothing of it runs: submit it again")
    return held


def _sealed(held: Any, first: int) -> KeyConflict:
    return KeyConflict(
        f"the batch with key {held.key!r} was sealed with {held.total} tasks, and some from {first} on "
        "are not among them: give the new tasks a batch key of their own"
    )


def count_tasks(connection: Connection, batch_id: str) -> int:
    return connection.execute(select(func.count()).where(tasks.c.batch_id == batch_id)).scalar_one()


def seal(connection: Connection, batch_id: str) -> int:
    """Closes the batch to new tasks and lets it run; its total. A batch that is sealed already stays as it is.

    Raises:
        BatchAborted: the batch has been given up.
    """
    _hold(connection, batch_id)
    total = count_tasks(connection, batch_id)
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state == "open")
        .values(
            state="running" if total else "finished",
            total=total,
            producer_seen_at=now(),
            finished_at=None if total else now(),
        )
    )
    return total


def abort(connection: Connection, batch_id: str, *, own: int | None = None) -> None:
    """Gives an open batch up: nothing of it runs from now on, and its key is free again.

    ``own`` is how many tasks the caller has added: where there are more, others are at work on it, and it stays.
    """
    if own is not None:
        connection.execute(select(batches.c.id).where(batches.c.id == batch_id).with_for_update())
        if count_tasks(connection, batch_id) != own:
            return
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state == "open")
        .values(state="aborted", key=None, cancelled_at=now())
    )


def unpublished(connection: Connection, batch_id: str, limit: int) -> list[Chunk]:
    """Chunks of a batch that have not been published, oldest first, with the ids that still wait in them."""
    rows = connection.execute(
        select(chunks)
        .where(chunks.c.batch_id == batch_id, chunks.c.published_at.is_(None), chunks.c.not_before.is_(None))
        .order_by(chunks.c.id)
        .limit(limit)
    ).all()
    return with_task_ids(connection, rows)


def with_task_ids(connection: Connection, rows: Sequence[Any]) -> list[Chunk]:
    """Chunk rows as messages; a chunk that nothing waits in any more comes with no ids."""
    waiting = connection.execute(
        select(tasks.c.chunk_id, tasks.c.id)
        .where(tasks.c.chunk_id.in_([row.id for row in rows]), tasks.c.state == "queued")
        .order_by(tasks.c.chunk_id, tasks.c.position)
    ).all()
    ids = {chunk_id: [row.id for row in group] for chunk_id, group in groupby(waiting, key=lambda row: row.chunk_id)}
    return [Chunk(row.id, row.batch_id, row.tier, row.priority, ids.get(row.id, [])) for row in rows]


def mark_published(connection: Connection, chunk_ids: Sequence[str]) -> None:
    """Chunks are with the broker; not those that a worker, faster than this, has put off: no message carries them."""
    is_due = or_(chunks.c.not_before.is_(None), chunks.c.not_before <= now())
    connection.execute(update(chunks).where(chunks.c.id.in_(chunk_ids), is_due).values(published_at=now()))


def see_producer(connection: Connection, batch_id: str) -> None:
    """The producer is still at work on this batch: the sweeper leaves its chunks to it."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(producer_seen_at=now()))


def forget_chunks(connection: Connection, chunk_ids: Sequence[str]) -> None:
    connection.execute(delete(chunks).where(chunks.c.id.in_(chunk_ids)))


def insert_ignoring(connection: Connection, table: Table) -> Any:
    """`INSERT … ON CONFLICT DO NOTHING`, which both stores spell alike and SQLAlchemy keeps apart."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def _cut_chunks(batch_id: str, added: Sequence[tuple[Placed, NewTask]]) -> list[Chunk]:
    """Chunks of at most 100 tasks of one tier and priority, in the order of submission."""
    groups: dict[tuple[str, int], list[str]] = {}
    for placed, task in added:
        groups.setdefault((task.decision.tier, task.priority), []).append(placed.id)
    return [
        Chunk(new_id(), batch_id, tier, priority, part)
        for (tier, priority), ids in groups.items()
        for part in _parts(ids, CHUNK_SIZE)
    ]


def _parts(items: Iterable[str], size: int) -> Iterable[list[str]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _insert_specs(connection: Connection, bodies: Iterable[SpecBody], at: datetime) -> None:
    rows = [
        {
            "id": body.id,
            "type": body.type,
            "name": body.name,
            "prompt_version": body.prompt_version,
            "content": body.json.decode(),
            "created_at": at,
        }
        for body in sorted(bodies, key=lambda body: body.id)
    ]
    connection.execute(insert_ignoring(connection, specs), rows)


def _insert_rows(
    connection: Connection,
    batch_id: str,
    added: Sequence[tuple[Placed, NewTask]],
    chunk_of: dict[str, str],
    at: datetime,
) -> None:
    # Keys go in sorted: two submitters of the same keys then wait for each other instead of deadlocking.
    ordered = sorted(added, key=lambda pair: (pair[1].key or "", pair[0].position))
    bulk_insert(
        connection, tasks, [_task_row(batch_id, placed, task, chunk_of[placed.id], at) for placed, task in ordered]
    )
    bulk_insert(connection, payloads, [{"task_id": placed.id, "input": task.input_json} for placed, task in added])
    bulk_insert(connection, decisions, [decision_row(placed.id, task.decision, at) for placed, task in added])


def decision_row(task_id: str, decision: Decision, at: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "task_id": task_id,
        "tier": decision.tier,
        "reason": decision.reason,
        "signals": decision.signals.json(),
        "policy_version": decision.policy_version,
        "created_at": at,
    }


def _task_row(batch_id: str, placed: Placed, task: NewTask, chunk_id: str, at: datetime) -> dict[str, Any]:
    return {
        "id": placed.id,
        "batch_id": batch_id,
        "spec_id": task.spec.id,
        "position": placed.position,
        "key": task.key,
        "type": task.spec.type,
        "state": "queued",
        "tier": task.decision.tier,
        "epoch": 0,
        "priority": task.priority,
        "urgency": task.urgency,
        "tags": task.tags,
        "deadline": task.deadline,
        "cost_nusd": 0,
        "created_at": at,
        "payload_hash": task.payload_hash,
        "constraints": task.constraints,
        "max_cost_nusd": task.max_cost_nusd,
        "chunk_id": chunk_id,
        "attempts": 0,
        "shadow_of": task.shadow_of,
    }


def _chunk_row(chunk: Chunk, at: datetime) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "batch_id": chunk.batch_id,
        "tier": chunk.tier,
        "priority": chunk.priority,
        "size": len(chunk.task_ids),
        "created_at": at,
    }
