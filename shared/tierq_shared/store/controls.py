"""What operators have set: pauses, limits and priorities. They hold on every host, until they are set otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, String, and_, delete, exists, func, insert, literal, or_, select, update

from tierq_shared.deployments import Deployment
from tierq_shared.queues import Chunk
from tierq_shared.store import schema
from tierq_shared.store.clock import instant, now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import batches, chunks, controls, tasks

_SLICE = 50
"""Chunks whose tasks are given another priority in one transaction: up to 5,000 tasks."""


Scope = tuple[str | None, str | None]
"""A tier or a batch; all where neither is named."""


@dataclass(frozen=True, slots=True)
class Override:
    """A limit in place of the configured one; None where that holds."""

    rpm: int | None
    tpm: int | None


@dataclass(frozen=True, slots=True)
class Controls:
    """All that is set now."""

    tiers: frozenset[str] = frozenset()
    """Those that are paused, and so for the next two."""
    deployments: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()
    limits: Mapping[str, Override] = field(default_factory=dict)
    """By `limit_scope`."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """By batch."""

    def resumed_since(self, before: Controls) -> list[Scope]:
        """Where pauses have ended."""
        ended: list[Scope] = [(tier, None) for tier in sorted(before.tiers - self.tiers)]
        ended += [(None, batch_id) for batch_id in sorted(before.batches - self.batches)]
        # Whose chains a deployment is in is the worker's to know: all that was put off is looked at.
        return [*ended, (None, None)] if before.deployments - self.deployments else ended

    def holds(self, chunk: Chunk) -> bool:
        """Whether nothing of a chunk may begin now."""
        return chunk.tier in self.tiers or chunk.batch_id in self.batches


NOTHING_SET = Controls()

SINCE = "0006"
"""The version of the tables that has what operators set."""


def tier_scope(tier: str) -> str:
    return f"tier:{tier}"


def deployment_scope(name: str) -> str:
    return f"deployment:{name}"


def batch_scope(batch_id: str) -> str:
    return f"batch:{batch_id}"


def limit_scope(deployment: Deployment) -> str:
    """What a deployment's limit is set by: the one it names, which others may share, else its own."""
    return f"limit:{deployment.limit}" if deployment.limit else deployment_scope(deployment.name)


def current(store: Store) -> Controls:
    """All that is set now; nothing can be on the tables of an older release."""
    if not schema.has(store, SINCE):
        return NOTHING_SET
    with store.reading() as connection:
        return read(connection)


def read(connection: Connection) -> Controls:
    """All that is set now."""
    rows = connection.execute(select(controls)).all()
    paused = [row.scope.partition(":") for row in rows if row.paused_at is not None]
    return Controls(
        tiers=frozenset(name for kind, _, name in paused if kind == "tier"),
        deployments=frozenset(name for kind, _, name in paused if kind == "deployment"),
        batches=frozenset(name for kind, _, name in paused if kind == "batch"),
        limits={row.scope: Override(row.rpm, row.tpm) for row in rows if row.rpm or row.tpm},
        priorities={row.scope.partition(":")[2]: row.priority for row in rows if row.priority is not None},
    )


def pause(connection: Connection, scope: str) -> bool:
    """Nothing new is begun of this scope from now on; whether that was not so already."""
    return _set(connection, scope, controls.c.paused_at.is_(None), {"paused_at": now()})


def resume(connection: Connection, scope: str) -> bool:
    """Ends a pause; whether there was one. What was put off meanwhile is due at once."""
    was_paused = _set(connection, scope, controls.c.paused_at.is_not(None), {"paused_at": None})
    kind, _, name = scope.partition(":")
    release(connection, tier=name if kind == "tier" else None, batch_id=name if kind == "batch" else None)
    return was_paused


def limit(connection: Connection, scope: str, rpm: int | None, tpm: int | None) -> None:
    """Puts a limit in the place of the configured one; None brings that back."""
    _set(connection, scope, literal(True), {"rpm": rpm, "tpm": tpm})  # noqa: FBT003


def release(connection: Connection, *, tier: str | None = None, batch_id: str | None = None) -> None:
    """Makes chunks due that were put off while something was paused: of a tier, of a batch, or all.

    Not those whose tasks themselves have to wait: a message that comes before they are due carries them nowhere.
    """
    not_due = exists().where(tasks.c.chunk_id == chunks.c.id, tasks.c.not_before > instant())
    put_off = [chunks.c.published_at.is_(None), chunks.c.not_before > instant(), ~not_due]
    if tier is not None:
        put_off.append(chunks.c.tier == tier)
    if batch_id is not None:
        put_off.append(chunks.c.batch_id == batch_id)
    connection.execute(update(chunks).where(*put_off).values(not_before=now()))


def prioritise(connection: Connection, batch_id: str, priority: int) -> int:
    """Gives a batch another priority; how many of its chunks wait and are rung again with it.

    Messages that were published with the old one carry the new one from their receipt on.
    """
    _set(connection, batch_scope(batch_id), literal(True), {"priority": priority})  # noqa: FBT003
    of_batch = update(chunks).where(chunks.c.batch_id == batch_id)
    connection.execute(of_batch.values(priority=priority))
    queued = of_batch.where(chunks.c.published_at.is_not(None), chunks.c.received_at.is_(None))
    rung = connection.execute(queued.values(published_at=None, not_before=now()))
    return rung.rowcount


def prioritise_tasks(connection: Connection, batch_id: str, priority: int) -> bool:
    """Gives a slice of a batch's waiting tasks their batch's priority; whether there may be more."""
    some = select(chunks.c.id).where(chunks.c.batch_id == batch_id)
    stale = exists().where(tasks.c.chunk_id == chunks.c.id, tasks.c.priority != priority)
    ids = list(connection.execute(some.where(stale).order_by(chunks.c.id).limit(_SLICE)).scalars())
    if ids:
        wanted = select(tasks.c.id).where(tasks.c.chunk_id.in_(ids)).order_by(tasks.c.id).with_for_update()
        task_ids = list(connection.execute(wanted).scalars())
        for first in range(0, len(task_ids), 500):
            part = task_ids[first : first + 500]
            connection.execute(update(tasks).where(tasks.c.id.in_(part)).values(priority=priority))
    return len(ids) == _SLICE


def forget_ended(connection: Connection) -> int:
    """Drops what was set for batches that have ended, and rows that say nothing any more; how many."""
    batch_of = func.substr(controls.c.scope, len(batch_scope("")) + 1, type_=String())
    ended = exists().where(batches.c.id == batch_of, batches.c.finished_at.is_not(None))
    is_empty = and_(*(column.is_(None) for column in _SET_COLUMNS))
    dropped = connection.execute(
        delete(controls).where(or_(is_empty, and_(controls.c.scope.like(f"{batch_scope('')}%"), ended)))
    )
    return dropped.rowcount


_SET_COLUMNS = (controls.c.paused_at, controls.c.rpm, controls.c.tpm, controls.c.priority)


def _set(connection: Connection, scope: str, where: Any, values: Mapping[str, Any]) -> bool:
    """Changes a scope's row where the condition holds, or makes one; whether it changed."""
    there = connection.execute(
        select(controls.c.scope).where(controls.c.scope == scope).with_for_update()
    ).one_or_none()
    if there is None:
        if any(value is not None for value in values.values()):
            connection.execute(insert(controls).values(scope=scope, **values))
            return True
        return False
    return connection.execute(update(controls).where(controls.c.scope == scope, where).values(**values)).rowcount == 1
