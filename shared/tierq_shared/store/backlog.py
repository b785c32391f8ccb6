"""What waits and what runs, by tier: for people, and for whatever starts and stops workers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select, union_all

from tierq_shared.store.clock import UtcDateTime, instant
from tierq_shared.store.controls import NOTHING_SET, Controls
from tierq_shared.store.leases import live_workers
from tierq_shared.store.tables import batches, is_word, tasks
from tierq_shared.store.tables import workers as workers_table


@dataclass(frozen=True, slots=True)
class TierBacklog:
    """One tier, now."""

    ready: int = 0
    """Tasks that could run now."""
    oldest_ready_s: float | None = None
    """Seconds since the oldest of them could; None where there is none."""
    waiting: int = 0
    """Tasks that are not due yet, or paused."""
    running: int = 0
    workers: int = 0
    """With a running lease."""
    resting_s: float | None = None
    """Seconds for which the deployment chain rests, as a worker last said; None where it does not."""
    is_paused: bool = False
    """Whether an operator has stopped it: then nothing of it is ready."""


def ready_tasks(connection: Connection, tier: str, now_set: Controls = NOTHING_SET) -> int:
    """How many tasks of a tier could run now: the true backlog. What is paused could not."""
    ready = select(func.count()).where(_QUEUED, tasks.c.tier == tier, _due(now_set))
    return connection.execute(ready).scalar_one()


def backlog(connection: Connection, now_set: Controls = NOTHING_SET) -> dict[str, TierBacklog]:
    """Every tier that has a task to run or a worker, sorted by name. Reads indexes only; ended tasks cost nothing.

    ``now_set``: what operators have set. What is paused waits, and is not ready.
    """
    queued = {row.tier: row for row in connection.execute(_by_tier(_due(now_set)))}
    running = {row.tier: row.tasks for row in connection.execute(_running())}
    workers, resting = live_workers(connection), _resting(connection)
    tiers = sorted({*queued, *running, *workers})
    return {
        tier: replace(
            _tier(queued.get(tier), running.get(tier, 0), workers.get(tier, 0), resting.get(tier)),
            is_paused=tier in now_set.tiers,
        )
        for tier in tiers
    }


# Sub-selects instead of a join: each batch that is not over is found by a small index of its own.
_RUNNABLE = union_all(
    select(batches.c.id).where(is_word(batches.c.state, "running"), batches.c.cancelled_at.is_(None)),
    select(batches.c.id).where(is_word(batches.c.state, "open"), batches.c.streaming, batches.c.cancelled_at.is_(None)),
)
_QUEUED: ColumnElement[bool] = and_(
    is_word(tasks.c.state, "queued"),
    tasks.c.batch_id.in_(_RUNNABLE),
    or_(tasks.c.deadline.is_(None), tasks.c.deadline > instant()),
)


def _due(now_set: Controls) -> ColumnElement[bool]:
    """Due, and not paused."""
    due = or_(tasks.c.not_before.is_(None), tasks.c.not_before <= instant())
    for column, paused in ((tasks.c.tier, now_set.tiers), (tasks.c.batch_id, now_set.batches)):
        if paused:
            due = and_(due, column.not_in(sorted(paused)))
    return due


def _by_tier(due: ColumnElement[bool]) -> Select[Any]:
    since = func.min(case((due, func.coalesce(tasks.c.not_before, tasks.c.created_at))), type_=UtcDateTime())
    ready = func.count(case((due, 1)))
    return (
        select(
            tasks.c.tier,
            ready.label("ready"),
            (func.count() - ready).label("waiting"),
            since.label("since"),
            instant().label("at"),
        )
        .where(_QUEUED)
        .group_by(tasks.c.tier)
    )


def _running() -> Select[Any]:
    running = select(tasks.c.tier, func.count().label("tasks")).where(is_word(tasks.c.state, "running"))
    return running.group_by(tasks.c.tier)


def _resting(connection: Connection) -> dict[str, float]:
    until = func.max(workers_table.c.resting_until, type_=UtcDateTime()).label("until")
    rows = select(workers_table.c.tier, until, instant().label("at")).where(workers_table.c.resting_until > instant())
    return {row.tier: (row.until - row.at).total_seconds() for row in connection.execute(rows.group_by("tier"))}


def _tier(queued: Any, running: int, workers: int, resting_s: float | None) -> TierBacklog:
    if queued is None:
        return TierBacklog(running=running, workers=workers, resting_s=resting_s)
    age = _seconds(queued.since, queued.at)
    return TierBacklog(queued.ready, age, queued.waiting, running, workers, resting_s)


def _seconds(since: datetime | None, at: datetime) -> float | None:
    return None if since is None else max(0.0, (at - since).total_seconds())
