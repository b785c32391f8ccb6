"""Claims tasks for a worker: `queued → running`, the epoch raised, the first attempt written ahead of its call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, or_, select, update

from tierq_shared.caps import Cap, batch_cap, names_tags, scopes_of
from tierq_shared.errors import PayloadLocked
from tierq_shared.store import sealed
from tierq_shared.store.budgets import Account, Purse, charged_to
from tierq_shared.store.cache import Shelf, Stored, look_up
from tierq_shared.store.clock import now
from tierq_shared.store.ledger import NewAttempt, attempt_row
from tierq_shared.store.tables import attempts, batches, chunks, payloads, specs, tasks, workers


class LeaseLost(Exception):
    """This worker's lease is over: its tasks belong to others, and nothing it says about them counts."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What the next call of a capped task may cost, at the moment of its claim."""

    of_task: int | None
    """What is left of the task's own cap, in nano-USD; None where it has none."""
    accounts: tuple[tuple[Cap, Account], ...]
    """The other caps that hold for it."""

    @property
    def nusd(self) -> int:
        """The most that a call may cost now, at its worst."""
        rooms = [account.room for _, account in self.accounts]
        return min(rooms if self.of_task is None else [self.of_task, *rooms])


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
    caps: tuple[Cap, ...] = ()
    """What bounds its spending beside its own cap."""
    max_cost_nusd: int | None = None
    headroom: Headroom | None = None
    """None where no cap holds for it."""


Learner = Callable[[Connection, set[str]], None]
"""Is given the ids of the specs that a claim meets, before any deployment is chosen."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No deployment of the tier may ever run this task."""

    code: str
    message: str
    reached: tuple[str, ...] = ()
    """The budgets that have no more room for it."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A cap has no room for the task's call now; it stays queued."""

    after_s: float
    """When it is worth looking again."""
    reached: tuple[str, ...] = ()
    """The budgets that nothing under way can make room in."""


@dataclass(frozen=True, slots=True)
class MovedDown:
    """A cap has no more room for the task's call on this tier, and has some on a lower one."""

    tier: str
    reason: str
    policy_version: str
    reached: tuple[str, ...] = ()


Chooser = Callable[[ClaimedTask], NewAttempt | Refusal | HeldBack | MovedDown | None]
"""Chooses the first deployment for a task; None where it cannot be run now and stays queued."""

SETTLES_SOON_S = 0.5
"""How soon it is looked again whether the calls under way, most of which cost less than reserved, have made room."""

LOCKED_S = 5.0
"""How soon a task is looked at again that this worker has no key for: others may have it."""

_ERASED = Refusal("input_erased", "its input was erased before it ran")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim came to."""

    taken: list[tuple[ClaimedTask, NewAttempt]]
    left: list[str]
    """Ids that are still queued: they could not be run now."""
    refused: list[tuple[ClaimedTask, Refusal]] = field(default_factory=list)
    moved: list[tuple[ClaimedTask, MovedDown]] = field(default_factory=list)
    held: dict[str, float] = field(default_factory=dict)
    """Those of ``left`` that a cap holds back or that wait for an identical task, with the seconds after which it is
    worth looking again."""
    answered: list[tuple[ClaimedTask, Stored]] = field(default_factory=list)
    """Those that the cache has an answer for: no call is made for them."""
    locked: list[str] = field(default_factory=list)
    """Those of ``left`` whose inputs are encrypted with a key that this process does not have."""


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
        tasks.c.max_cost_nusd,
        tasks.c.tags,
        tasks.c.payload_hash,
        batches.c.tags.label("batch_tags"),
        batches.c.max_cost_nusd.label("batch_cap"),
        batches.c.on_cap,
        sealed.as_stored(payloads.c.input),
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """Queued tasks that are locked for a claim, with the caps that hold for each."""

    rows: Sequence[Any]
    caps: Mapping[str, tuple[Cap, ...]]
    """By the task's id; those without any cap are not in it."""
    shelf: Shelf
    """What the cache has for them."""


def lock_waiting(
    connection: Connection, tier: str, ids: Sequence[str], purse: Purse, caps: Sequence[Cap] = ()
) -> Waiting:
    """Locks those of ``ids`` that may be claimed, names the budgets of those under a cap, and looks into the cache.

    ``caps``: the configured ones.
    """
    if not ids:
        return Waiting([], {}, Shelf())
    rows = connection.execute(_CLAIM_ROWS, {"ids": list(ids), "claim_tier": tier}).all()
    reads_tags = names_tags(caps)
    found = {row.id: bounds for row in rows if (bounds := _caps_of(row, caps, reads_tags=reads_tags))}
    for bounds in found.values():
        purse.want_caps(bounds, rows[0].claimed_at)
    return Waiting(rows, found, look_up(connection, tier, rows))


def claim(
    connection: Connection,
    worker_id: str,
    tier: str,
    ids: Sequence[str],
    learn: Learner,
    choose: Chooser,
    caps: Sequence[Cap] = (),
) -> Claims:
    """Takes those of ``ids`` that are queued on this tier, due, not cancelled and not past their deadline."""
    purse = Purse()
    claims = take(connection, worker_id, lock_waiting(connection, tier, ids, purse, caps), learn, choose, purse)
    purse.write(connection)
    return claims


def take(
    connection: Connection, worker_id: str, waiting: Waiting, learn: Learner, choose: Chooser, purse: Purse
) -> Claims:
    """Takes locked tasks in order, as far as the chooser finds a deployment and each cap has room.

    Not those that the cache has an answer for, nor those that are identical to one that is under way.
    """
    purse.open(connection)
    learn(connection, {row.spec_id for row in waiting.rows})
    claims = Claims([], [])
    if not waiting.rows:
        return claims
    at = waiting.rows[0].claimed_at
    charged = charged_to(connection, [row.id for row in waiting.rows if _is_charged_unknown(row)])
    for row in waiting.rows:
        task = _claimed(row, waiting.caps.get(row.id, ()), at, purse, charged)
        if task is None:
            claims.left.append(row.id)
            claims.held[row.id] = LOCKED_S
            claims.locked.append(row.id)
        elif row.input is None:
            claims.refused.append((task, _ERASED))
        elif (stored := waiting.shelf.answers.get(task.id)) is not None:
            claims.answered.append((task, stored))
        elif (wait_s := waiting.shelf.wait_of(task.id)) is not None:
            claims.left.append(task.id)
            claims.held[task.id] = wait_s
        else:
            _sort_in(claims, task, choose(task), scopes_of(task.caps, at) if task.caps else [], purse)
            if claims.taken and claims.taken[-1][0] is task:
                waiting.shelf.calls(task.id)
    waiting.shelf.write(connection)
    if claims.taken:
        connection.execute(_TAKE, {"ids": [task.id for task, _ in claims.taken], "claimant": worker_id})
        connection.execute(insert(attempts), [attempt_row(attempt, worker_id, at) for _, attempt in claims.taken])
    return claims


def _sort_in(
    claims: Claims,
    task: ClaimedTask,
    chosen: NewAttempt | Refusal | HeldBack | MovedDown | None,
    scopes: Sequence[str],
    purse: Purse,
) -> None:
    if isinstance(chosen, NewAttempt) and _has_room(task, chosen):
        purse.reserve(scopes, chosen.reserved_nusd)
        claims.taken.append((task, chosen))
        return
    if isinstance(chosen, Refusal | MovedDown | HeldBack):
        purse.mark_reached(chosen.reached)
    if isinstance(chosen, Refusal):
        claims.refused.append((task, chosen))
    elif isinstance(chosen, MovedDown):
        claims.moved.append((task, chosen))
    else:
        claims.left.append(task.id)
        if chosen is not None:
            claims.held[task.id] = chosen.after_s if isinstance(chosen, HeldBack) else SETTLES_SOON_S


def _has_room(task: ClaimedTask, attempt: NewAttempt) -> bool:
    """Whoever chose has looked; a cap is hard whatever they found."""
    if task.headroom is None:
        return True
    return attempt.reserved_nusd is not None and attempt.reserved_nusd <= task.headroom.nusd


def _caps_of(row: Any, caps: Sequence[Cap], *, reads_tags: bool) -> tuple[Cap, ...]:
    found = [] if row.batch_cap is None else [batch_cap(row.batch_id, row.batch_cap, row.on_cap)]
    if caps:
        tags = {**_tags(row.batch_tags), **_tags(row.tags)} if reads_tags else {}
        found += [cap for cap in caps if cap.holds_for(tags)]
    return tuple(found)


def _tags(document: str | None) -> dict[str, str]:
    return orjson.loads(document) if document else {}


def _is_charged_unknown(row: Any) -> bool:
    """Whether a task has a cap of its own, and the sum of its attempts is not known."""
    return row.max_cost_nusd is not None and row.cost_nusd is None


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


def _claimed(
    row: Any, caps: tuple[Cap, ...], at: datetime, purse: Purse, charged: Mapping[str, int]
) -> ClaimedTask | None:
    """A row as the task that it is; None where its input cannot be decrypted here: others may have the key."""
    try:
        input_json = sealed.unseal(row.input or "")
    except PayloadLocked:
        return None
    headroom = None
    if caps or row.max_cost_nusd is not None:
        spent = charged.get(row.id, row.cost_nusd or 0)
        of_task = None if row.max_cost_nusd is None else row.max_cost_nusd - spent
        headroom = Headroom(of_task, tuple((cap, purse.account(cap.scope(at))) for cap in caps))
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
        input_json=input_json,
        created_at=row.created_at,
        claimed_at=row.claimed_at,
        deadline=row.deadline,
        constraints=orjson.loads(row.constraints) if row.constraints else {},
        attempts=row.attempts,
        cost_nusd=row.cost_nusd,
        uncounted_attempts=row.uncounted_attempts,
        caps=caps,
        max_cost_nusd=row.max_cost_nusd,
        headroom=headroom,
    )
