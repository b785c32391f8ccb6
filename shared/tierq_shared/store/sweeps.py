"""What makes the broker agree with SQL: each a bounded slice, run again until it finds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from tierq_shared.queues import Chunk
from tierq_shared.store.budgets import Purse, scopes_in
from tierq_shared.store.clock import instant, now
from tierq_shared.store.inputs import drop_unkept
from tierq_shared.store.outcomes import insert_chunks
from tierq_shared.store.submission import with_task_ids
from tierq_shared.store.tables import attempts, batches, chunks, is_word, markers, payloads, tasks, workers
from tierq_shared.store.tallies import add_to_tallies, correct_costs, finish_batches

SLICE = 500

PUBLISHER_GRACE_S = 5.0
"""How long a fresh chunk is left to whoever made it, who publishes it as well."""

MARKER_MARGIN_S = 30.0
"""Only what was published this long before a marker counts as lost when the marker arrives: received takes its time."""


_ENDING = (tasks.c.id, tasks.c.batch_id, tasks.c.position, tasks.c.tier, tasks.c.cost_nusd)
"""What must be known of a task to end it."""

_EXHAUSTED = "its attempts were used up, the last of them by a worker that died"


def chunks_to_ring(connection: Connection, limit: int = 100) -> list[Chunk]:
    """Unpublished chunks whose maker seems gone, and waiting ones that are due."""
    left = select(chunks).join(batches, batches.c.id == chunks.c.batch_id)
    rows = connection.execute(
        left.where(
            chunks.c.published_at.is_(None),
            or_(batches.c.state == "running", (batches.c.state == "open") & batches.c.streaming),
            or_(
                chunks.c.not_before <= instant(),
                chunks.c.not_before.is_(None)
                & (chunks.c.created_at < now(-PUBLISHER_GRACE_S))
                & (batches.c.producer_seen_at < now(-PUBLISHER_GRACE_S)),
            ),
        )
        .order_by(chunks.c.priority.desc(), chunks.c.id)
        .limit(limit)
    ).all()
    return with_task_ids(connection, rows)


def markers_due(connection: Connection, every_s: float) -> list[tuple[str, int]]:
    """Queues and priorities that hold chunks published a while ago and never received, and had no marker lately."""
    waiting = (
        select(chunks.c.tier, chunks.c.priority)
        .where(chunks.c.published_at < instant(-every_s), chunks.c.received_at.is_(None))
        .group_by(chunks.c.tier, chunks.c.priority)
    )
    lately = select(markers.c.tier, markers.c.priority).where(markers.c.published_at > now(-every_s))
    recent = {(row.tier, row.priority) for row in connection.execute(lately)}
    return [(row.tier, row.priority) for row in connection.execute(waiting) if (row.tier, row.priority) not in recent]


def start_marker(connection: Connection, tier: str, priority: int) -> datetime:
    """Notes that a marker goes out; its time, which travels with it."""
    at: datetime = connection.execute(select(now())).scalar_one()
    changed = connection.execute(
        update(markers).where(markers.c.tier == tier, markers.c.priority == priority).values(published_at=at)
    )
    if changed.rowcount == 0:
        connection.execute(insert(markers).values(tier=tier, priority=priority, published_at=at))
    return at


def marker_received(connection: Connection, tier: str, priority: int, published_at: datetime) -> None:
    """A marker came through: what was published well before it, and not received, is lost."""
    connection.execute(
        update(markers)
        .where(markers.c.tier == tier, markers.c.priority == priority)
        .where(or_(markers.c.proves_until.is_(None), markers.c.proves_until < published_at))
        .values(proves_until=published_at)
    )


def ring_lost_chunks(connection: Connection, margin_s: float = MARKER_MARGIN_S) -> int:
    """Makes chunks that markers proved lost unpublished and due again; how many."""
    lost = 0
    proofs = select(markers.c.tier, markers.c.priority, markers.c.proves_until).where(
        markers.c.proves_until.is_not(None)
    )
    # Locked, so that a proof which arrives meanwhile is not wiped out below.
    for tier, priority, until in connection.execute(proofs.with_for_update()).all():
        changed = connection.execute(
            update(chunks)
            .where(
                chunks.c.tier == tier,
                chunks.c.priority == priority,
                chunks.c.received_at.is_(None),
                chunks.c.published_at < until - timedelta(seconds=margin_s),
            )
            .values(published_at=None, not_before=now())
        )
        lost += changed.rowcount
    connection.execute(update(markers).where(markers.c.proves_until.is_not(None)).values(proves_until=None))
    return lost


def dead_workers(connection: Connection) -> list[str]:
    """Workers that stopped or whose lease ran out, and that are not settled yet."""
    over = or_(workers.c.lease_until < now(), workers.c.stopped_at.is_not(None))
    return list(connection.execute(select(workers.c.id).where(over)).scalars())


@dataclass(frozen=True, slots=True)
class Settled:
    """What a dead worker's slice came to."""

    is_done: bool
    """Nothing of the worker is left."""
    chunks: list[Chunk]
    """Its tasks, to be published again."""
    ended: list[tuple[str, int]]
    """Tasks that failed with it, by (batch, position)."""


def settle_worker(connection: Connection, worker_id: str, sweeper_id: str, max_attempts: int) -> Settled:
    """Takes a slice of a dead worker's tasks and chunks back.

    A task whose attempts are used up fails: it may be what kills the workers.
    """
    # A claim that is still open holds this row: what it takes must be seen below.
    connection.execute(select(workers.c.id).where(workers.c.id == worker_id).with_for_update())
    of_worker = (
        select(*_ENDING, tasks.c.priority, (tasks.c.attempts - tasks.c.uncounted_attempts).label("calls"))
        .where(tasks.c.worker_id == worker_id, is_word(tasks.c.state, "running"))
        .order_by(tasks.c.id)
        .limit(SLICE)
        .with_for_update()
    )
    found = [row.id for row in connection.execute(of_worker)]
    is_done = len(found) < SLICE
    _close_attempts(connection, worker_id, sweeper_id, None if is_done else found)
    # Read once more: what was under way is charged now, and the tallies must say so.
    running = connection.execute(of_worker).all()
    exhausted = [row for row in running if row.calls >= max_attempts]
    again = [row for row in running if row.calls < max_attempts]
    ended = end_tasks(connection, sweeper_id, exhausted, "failed", "attempts_exhausted", _EXHAUSTED)
    finish_batches(connection, {batch_id for batch_id, _ in ended})
    cut = insert_chunks(connection, ((row.batch_id, row.tier, row.priority, row.id) for row in again))
    _requeue(connection, cut)
    if not is_done:
        return Settled(is_done=False, chunks=cut, ended=ended)
    orphaned = update(chunks).where(chunks.c.worker_id == worker_id)
    connection.execute(orphaned.values(received_at=None, published_at=None, worker_id=None, not_before=now()))
    connection.execute(delete(workers).where(workers.c.id == worker_id))
    return Settled(is_done=True, chunks=cut, ended=ended)


def expire_tasks(connection: Connection, sweeper_id: str) -> list[tuple[str, int]]:
    """Ends a slice of queued tasks whose deadline has passed, and the batches that end with them.

    Their (batch, position).
    """
    rows = connection.execute(
        select(*_ENDING)
        .where(tasks.c.deadline < instant(), is_word(tasks.c.state, "queued"), tasks.c.deadline.is_not(None))
        .order_by(tasks.c.id)
        .limit(SLICE)
        .with_for_update()
    ).all()
    ended = end_tasks(
        connection, sweeper_id, rows, "expired", "deadline", "the deadline passed before an answer was there"
    )
    # At once: whoever waits hears of the last task, and finds its batch finished.
    finish_batches(connection, {batch_id for batch_id, _ in ended})
    return ended


def cancelled_batches(connection: Connection) -> list[tuple[str, str]]:
    """Batches that were cancelled or given up and still have rows to settle, with their state."""
    statement = select(batches.c.id, batches.c.state).where(
        batches.c.cancelled_at.is_not(None), batches.c.finished_at.is_(None)
    )
    return [(row.id, row.state) for row in connection.execute(statement)]


def cancel_tasks(connection: Connection, sweeper_id: str, batch_id: str, after_position: int) -> list[tuple[str, int]]:
    """Ends a slice of a cancelled batch's queued tasks, beyond a position; their (batch, position).

    The last slice takes the batch's chunks along: nothing of it is claimed any more, and nobody else deletes them.
    """
    rows = connection.execute(
        select(*_ENDING)
        .where(tasks.c.batch_id == batch_id, is_word(tasks.c.state, "queued"), tasks.c.position > after_position)
        .order_by(tasks.c.position)
        .limit(SLICE)
        .with_for_update()
    ).all()
    if len(rows) < SLICE:
        _delete_chunks(connection, batch_id)
    return end_tasks(connection, sweeper_id, rows, "cancelled", "cancelled", "the batch was cancelled")


def close_aborted(connection: Connection, batch_id: str) -> None:
    """An aborted batch is over once no task of it is left; one that still runs may yet be queued again."""
    left = exists().where(tasks.c.batch_id == batch_id, tasks.c.state.in_(("queued", "running")))
    aborted = update(batches).where(batches.c.id == batch_id, batches.c.state == "aborted", ~left)
    connection.execute(aborted.values(finished_at=now()))
    _delete_chunks(connection, batch_id)


def running_batches(connection: Connection) -> list[str]:
    return list(connection.execute(select(batches.c.id).where(is_word(batches.c.state, "running"))).scalars())


def _delete_chunks(connection: Connection, batch_id: str) -> None:
    connection.execute(delete(chunks).where(chunks.c.batch_id == batch_id))


def _close_attempts(connection: Connection, worker_id: str, sweeper_id: str, task_ids: Sequence[str] | None) -> None:
    """What a dead worker had under way is of unknown outcome, and stays charged at its worst case."""
    open_ = (attempts.c.worker_id == worker_id) & is_word(attempts.c.outcome, "started")
    if task_ids is not None:
        open_ &= attempts.c.task_id.in_(task_ids)
    closed = connection.execute(
        update(attempts)
        .where(open_)
        .values(
            outcome="unknown", cost_nusd=attempts.c.reserved_nusd, error="the worker died while the call was under way"
        )
        .returning(attempts.c.task_id, attempts.c.budgets, attempts.c.reserved_nusd)
    ).all()
    of_closed = tasks.c.id.in_(sorted({row.task_id for row in closed}))
    charged = select(tasks.c.id, tasks.c.state, tasks.c.batch_id, tasks.c.tier, tasks.c.cost_nusd).where(of_closed)
    correct_costs(connection, sweeper_id, connection.execute(charged).all())
    _settle(connection, [row for row in closed if row.budgets is not None])


def _settle(connection: Connection, closed: Sequence[Any]) -> None:
    """What was reserved for calls of unknown outcome is spent, as far as anybody can know."""
    purse = Purse()
    purse.want({scope for row in closed for scope in scopes_in(row.budgets)})
    purse.open(connection)
    for row in closed:
        purse.settle(scopes_in(row.budgets), reserved=-row.reserved_nusd, spent=row.reserved_nusd)
    purse.write(connection)


def _requeue(connection: Connection, cut: Sequence[Chunk]) -> None:
    for chunk in cut:
        back = update(tasks).where(tasks.c.id.in_(chunk.task_ids))
        connection.execute(back.values(state="queued", worker_id=None, chunk_id=chunk.id))


def end_tasks(
    connection: Connection, sweeper_id: str, rows: Sequence[Any], state: str, code: str, message: str
) -> list[tuple[str, int]]:
    """Ends tasks that nobody runs; their (batch, position)."""
    if not rows:
        return []
    ids = [row.id for row in rows]
    ended = update(tasks).where(tasks.c.id.in_(ids))
    connection.execute(ended.values(state=state, error_code=code, finished_at=now(), chunk_id=None, worker_id=None))
    connection.execute(update(payloads).where(payloads.c.task_id.in_(ids)).values(error=message))
    drop_unkept(connection, ids)
    add_to_tallies(connection, sweeper_id, ((row.batch_id, row.tier, state, row.cost_nusd) for row in rows))
    return [(row.batch_id, row.position) for row in rows]
