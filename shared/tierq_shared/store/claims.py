"""Claims tasks for a worker: `queued → running`, the epoch raised, the first attempt written ahead of its call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, or_, select, update

from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, batches, chunks, payloads, specs, tasks, workers


class LeaseLost(Exception):
    """This worker's lease is over: its tasks belong to others, and nothing it says about them counts."""


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task that is this worker's to run, at this epoch."""

    id: str
    batch_id: str
    chunk_id: str | None
    position: int
    epoch: int
    type: str
    tier: str
    priority: int
    urgency: str
    spec_id: str
    input_json: str = field(repr=False)
    created_at: datetime
    claimed_at: datetime
    deadline: datetime | None
    constraints: dict[str, Any]
    attempts: int
    """Calls before this claim."""
    cost_nusd: int | None
    """What those cost; None where any was unpriced."""
    uncounted_attempts: int = 0
    """Those of ``attempts`` that do not count against the budget of calls."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An attempt on its way into the ledger, before its call."""

    id: str
    task_id: str
    epoch: int
    ordinal: int
    tier: str
    deployment: str
    provider: str
    model: str
    lane: str
    reserved_nusd: int | None
    price_version: str | None


Learner = Callable[[Connection, set[str]], None]
"""Is given the ids of the specs that a claim meets, before any deployment is chosen."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No deployment of the tier may ever run this task."""

    code: str
    message: str


Chooser = Callable[[ClaimedTask], NewAttempt | Refusal | None]
"""Chooses the first deployment for a task; None where it cannot be run now and stays queued."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim came to."""

    taken: list[tuple[ClaimedTask, NewAttempt]]
    left: list[str]
    """Ids that are still queued: they could not be run now."""
    refused: list[tuple[ClaimedTask, Refusal]] = field(default_factory=list)


_CLAIM_ROWS = (
    select(
        tasks.c.id,
        tasks.c.batch_id,
        tasks.c.chunk_id,
        tasks.c.position,
        tasks.c.epoch,
        tasks.c.type,
        tasks.c.tier,
        tasks.c.priority,
        tasks.c.urgency,
        tasks.c.spec_id,
        tasks.c.created_at,
        tasks.c.deadline,
        tasks.c.constraints,
        tasks.c.attempts,
        tasks.c.uncounted_attempts,
        tasks.c.cost_nusd,
        payloads.c.input,
        now().label("claimed_at"),
    )
    .join(payloads, payloads.c.task_id == tasks.c.id)
    .join(batches, batches.c.id == tasks.c.batch_id)
    .where(
        tasks.c.id.in_(bindparam("ids", expanding=True)),
        tasks.c.state == "queued",
        tasks.c.tier == bindparam("claim_tier"),
        batches.c.cancelled_at.is_(None),
        or_(tasks.c.not_before.is_(None), tasks.c.not_before <= now()),
        or_(tasks.c.deadline.is_(None), tasks.c.deadline > now()),
    )
    # Everyone locks in id order, so two workers cannot wait for each other.
    .order_by(tasks.c.id)
    .with_for_update(of=tasks)
)

_TAKE = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        state="running",
        epoch=tasks.c.epoch + 1,
        attempts=tasks.c.attempts + 1,
        worker_id=bindparam("claimant"),
        chunk_id=None,
        not_before=None,
    )
)

_ALREADY = select(attempts.c.id).where(attempts.c.id.in_(bindparam("ids", expanding=True)))


_LEASE_RUNS = (
    select(workers.c.id)
    .where(workers.c.id == bindparam("worker"), workers.c.lease_until > now(), workers.c.stopped_at.is_(None))
    # Keeps the sweeper from settling this worker until the claim is committed; renewals go on beside it.
    .with_for_update(read=True, key_share=True)
)


def check_lease(connection: Connection, worker_id: str) -> None:
    """Raises LeaseLost unless this worker's lease runs, by the database's clock."""
    if connection.execute(_LEASE_RUNS, {"worker": worker_id}).first() is None:
        raise LeaseLost(worker_id)


def claim(
    connection: Connection, worker_id: str, tier: str, ids: Sequence[str], learn: Learner, choose: Chooser
) -> Claims:
    """Takes those of ``ids`` that are queued on this tier, due, not cancelled and not past their deadline."""
    rows = connection.execute(_CLAIM_ROWS, {"ids": list(ids), "claim_tier": tier}).all()
    learn(connection, {row.spec_id for row in rows})
    taken: list[tuple[ClaimedTask, NewAttempt]] = []
    left: list[str] = []
    refused: list[tuple[ClaimedTask, Refusal]] = []
    for row in rows:
        task = _claimed(row)
        attempt = choose(task)
        if attempt is None:
            left.append(task.id)
        elif isinstance(attempt, Refusal):
            refused.append((task, attempt))
        else:
            taken.append((task, attempt))
    if taken:
        connection.execute(_TAKE, {"ids": [task.id for task, _ in taken], "claimant": worker_id})
        at = taken[0][0].claimed_at
        connection.execute(insert(attempts), [_attempt_row(attempt, worker_id, at) for _, attempt in taken])
    return Claims(taken, left, refused)


def insert_attempts(connection: Connection, worker_id: str, new: Sequence[NewAttempt]) -> None:
    """Writes attempts ahead of their calls."""
    at = connection.execute(select(now())).scalar_one()
    connection.execute(insert(attempts), [_attempt_row(attempt, worker_id, at) for attempt in new])


def committed_attempts(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these attempts the ledger holds: how a commit whose connection broke is known to have succeeded."""
    return set(connection.execute(_ALREADY, {"ids": list(ids)}).scalars())


def receive(connection: Connection, worker_id: str, chunk_ids: Sequence[str]) -> None:
    """These chunks have reached a worker."""
    connection.execute(update(chunks).where(chunks.c.id.in_(chunk_ids)).values(received_at=now(), worker_id=worker_id))


def hand_back(connection: Connection, chunk_ids: Sequence[str], *, after_s: float = 0.0) -> None:
    """These chunks are to be published again, now by this worker or, with ``after_s``, by the sweeper when due."""
    connection.execute(
        update(chunks)
        .where(chunks.c.id.in_(chunk_ids))
        .values(
            received_at=None,
            worker_id=None,
            published_at=None,
            not_before=now(after_s) if after_s else None,
        )
    )


def read_specs(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    rows = connection.execute(select(specs.c.id, specs.c.content).where(specs.c.id.in_(ids)))
    return {row.id: row.content for row in rows}


def _claimed(row: Any) -> ClaimedTask:
    return ClaimedTask(
        id=row.id,
        batch_id=row.batch_id,
        chunk_id=row.chunk_id,
        position=row.position,
        epoch=row.epoch + 1,
        type=row.type,
        tier=row.tier,
        priority=row.priority,
        urgency=row.urgency,
        spec_id=row.spec_id,
        input_json=row.input,
        created_at=row.created_at,
        claimed_at=row.claimed_at,
        deadline=row.deadline,
        constraints=orjson.loads(row.constraints) if row.constraints else {},
        attempts=row.attempts,
        cost_nusd=row.cost_nusd,
        uncounted_attempts=row.uncounted_attempts,
    )


def _attempt_row(attempt: NewAttempt, worker_id: str, at: datetime) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "task_id": attempt.task_id,
        "epoch": attempt.epoch,
        "ordinal": attempt.ordinal,
        "tier": attempt.tier,
        "deployment": attempt.deployment,
        "provider": attempt.provider,
        "model": attempt.model,
        "lane": attempt.lane,
        "outcome": "started",
        "started_at": at,
        "reserved_nusd": attempt.reserved_nusd,
        "price_version": attempt.price_version,
        "worker_id": worker_id,
    }
