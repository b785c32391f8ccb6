"""Every statement that producers, workers, the sweeper and the console run again and again: by running their functions.

Each runs in a transaction of its own, which is rolled back: all meet the same store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from chaos.driving_erasure import ERASURES
from chaos.explaining import Statement, explained
from chaos.filling import Filled
from tierq.outputs import Decoder
from tierq_console.batches import find_batch, find_by_key
from tierq_insight.report import Known, Scope, make_report
from tierq_insight.spending import by_model
from tierq_insight.telemetry import records
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.store import (
    backlog,
    claims,
    drift,
    leases,
    ledger,
    outcomes,
    policies,
    reading,
    shadows,
    submission,
    sweeps,
)
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.outcomes import Requeued
from tierq_shared.store.sweeps import SLICE
from tierq_shared.store.tables import attempts, chunks, payloads, tasks
from tierq_shared.store.tallies import finish_batches
from unit.store.installation import FAILED, SUCCEEDED, learn_nothing, new_attempt, new_batch, new_task, step

GROUP = 100
"""Tasks of one claim or commit."""


@dataclass(frozen=True)
class Facts:
    """What of a filled store the functions are given."""

    filled: Filled
    waiting: list[str]
    """Queued tasks that can be claimed."""
    running: list[tuple[ClaimedTask, Any]]
    """Tasks of the live worker, each with its attempt."""
    ended: list[tuple[ClaimedTask, Any]]
    chunk_ids: list[str]


Drive = Callable[[Connection, Facts], object]


@dataclass(frozen=True)
class Driven:
    """One statement of one function."""

    function: str
    statement: Statement


def drive(store: Store, filled: Filled) -> Iterator[Driven]:
    """Runs everything once, and says how the store runs each statement."""
    with store.reading() as connection:
        facts = _facts(connection, filled)
    for name, work in DRIVES.items():
        with explained(store.engine) as found, store.engine.connect() as connection:
            work(connection, facts)
        yield from (Driven(name, statement) for statement in found.statements.values())
    for name, look in LOOKS.items():
        with explained(store.engine) as found:
            look(store, facts)
        yield from (Driven(name, statement) for statement in found.statements.values())


def _facts(connection: Connection, filled: Filled) -> Facts:
    of_batch = tasks.c.batch_id == filled.running
    waiting = select(tasks.c.id).where(of_batch, tasks.c.state == "queued", tasks.c.not_before.is_(None)).limit(GROUP)
    some = select(chunks.c.id).where(chunks.c.batch_id == filled.running).limit(GROUP)
    return Facts(
        filled,
        list(connection.execute(waiting).scalars()),
        _taken(connection, filled, "running"),
        _taken(connection, filled, "succeeded"),
        list(connection.execute(some).scalars()),
    )


def _taken(connection: Connection, filled: Filled, state: str) -> list[tuple[ClaimedTask, Any]]:
    """Tasks as their claim gave them, with their attempts."""
    statement = (
        select(tasks, attempts.c.id.label("attempt_id"))
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(tasks.c.batch_id == filled.running, tasks.c.state == state)
        .where((tasks.c.worker_id == filled.live_worker) | (tasks.c.state != "running"))
        .limit(GROUP)
    )
    return [_pair(row) for row in connection.execute(statement)]


def _pair(row: Any) -> tuple[ClaimedTask, Any]:
    names = ("id", "batch_id", "chunk_id", "position", "epoch", "type", "tier", "priority", "urgency", "spec_id")
    known = {name: getattr(row, name) for name in names}
    task = ClaimedTask(
        **known,
        input_json="{}",
        created_at=row.created_at,
        claimed_at=row.created_at,
        deadline=row.deadline,
        constraints={},
        attempts=row.attempts,
        cost_nusd=row.cost_nusd,
    )
    return task, replace(new_attempt(task), id=row.attempt_id)


def _claim(connection: Connection, facts: Facts) -> None:
    worker = facts.filled.live_worker
    claims.check_lease(connection, worker)
    taken = claims.claim(connection, worker, "small", facts.waiting, learn_nothing, new_attempt).taken
    assert len(taken) == len(facts.waiting)


def _commit(connection: Connection, facts: Facts) -> None:
    """All that may become of a task, in one group; and an answer that comes too late."""
    steps = [step(taken, SUCCEEDED if number % 2 else FAILED) for number, taken in enumerate(facts.running)]
    steps[0] = step(facts.running[0], Requeued("large", reason="escalated"))
    steps[1] = step(facts.running[1], Requeued("small", after_s=30.0))
    steps[2] = step(facts.running[2], new_attempt(facts.running[2][0], ordinal=2))
    late = replace(step(facts.ended[0], SUCCEEDED), epoch=0)
    counted = outcomes.commit_steps(connection, facts.filled.live_worker, [*steps, late]).counted
    assert counted == [True] * len(steps) + [False]


def _commit_again(connection: Connection, facts: Facts) -> None:
    """Tasks that were claimed before: what they cost is asked of the ledger."""
    again = [(replace(task, epoch=2), attempt) for task, attempt in facts.running]
    connection.execute(tasks.update().where(tasks.c.id.in_([task.id for task, _ in again])).values(epoch=2))
    outcomes.commit_steps(connection, facts.filled.live_worker, [step(taken, SUCCEEDED) for taken in again])


def _cancel(connection: Connection, facts: Facts) -> None:
    batch, position = facts.filled.cancelled, -1
    while ended := sweeps.cancel_tasks(connection, "sweeper", batch, position):
        position = max(one for _, one in ended)
        if len(ended) < SLICE:
            return


def _lost(connection: Connection, facts: Facts) -> None:
    at = sweeps.start_marker(connection, "small", 5)
    sweeps.marker_received(connection, "small", 5, at)
    assert sweeps.ring_lost_chunks(connection) > 0


def _insert(connection: Connection, batch_id: str, first: int, *, keyed: bool, fresh: bool) -> None:
    new = [new_task(f"new {number}" if keyed else None) for number in range(500)]
    submission.insert_slice(connection, batch_id, first, new, fresh=fresh)


def _new_batch(connection: Connection, _facts: Facts) -> None:
    batch = new_batch("a new job")
    submission.open_batch(connection, batch)
    _insert(connection, batch.id, 0, keyed=True, fresh=True)
    _insert(connection, batch.id, 500, keyed=True, fresh=True)
    submission.seal(connection, batch.id)


def _resumed_batch(connection: Connection, facts: Facts) -> None:
    """By keys, and by positions beyond what is there."""
    assert submission.find_by_key(connection, f"job {facts.filled.open}") is not None
    _insert(connection, facts.filled.open, 0, keyed=True, fresh=False)
    _insert(connection, facts.filled.open, 10_000_000, keyed=False, fresh=False)
    submission.abort(connection, facts.filled.open)


def _ended(connection: Connection, facts: Facts) -> None:
    reading.outcomes(connection, facts.filled.running, list(range(500)), {}, Decoder())


def _page(connection: Connection, facts: Facts) -> None:
    middle = select(func.max(tasks.c.position) / 2).where(tasks.c.batch_id == facts.filled.finished)
    position = int(connection.execute(middle).scalar_one())
    reading.outcomes_after(connection, facts.filled.finished, position, 500, {}, Decoder())


def _finish(connection: Connection, _facts: Facts) -> None:
    finish_batches(connection, sweeps.running_batches(connection))


def _judge(connection: Connection, facts: Facts) -> None:
    """Shadows of answered tasks are made, answered as well, and judged."""
    answered = shadows.answered(connection, [task.id for task, _ in facts.ended])
    assert len(answered) == len(facts.ended)
    made = shadows.insert_shadows(connection, [(task, "large") for task in answered], "v1")
    ids = [id_ for chunk in made for id_ in chunk.task_ids]
    connection.execute(update(tasks).where(tasks.c.id.in_(ids)).values(state="succeeded", finished_at=now()))
    connection.execute(update(payloads).where(payloads.c.task_id.in_(ids)).values(output='"billing"'))
    assert shadows.judge_shadows(connection) == len(answered)


def _drift(connection: Connection, _facts: Facts) -> None:
    """The active version's rules are watched."""
    rule = DocumentRule(tier="small", evidence=RuleEvidence(verdict="derived", samples=100, required=0.9))
    tiers = ("small", "medium", "large")
    watched = PolicyDocument(version="v1", created_at=datetime.now(UTC), tiers=tiers, policy=(rule,))
    policies.store(connection, watched)
    policies.activate(connection, "v1", "applied")
    assert drift.move_drifted(connection, 200, 50) is None


DRIVES: dict[str, Drive] = {
    "claim": _claim,
    "commit": _commit,
    "commit, epoch above 1": _commit_again,
    "finish batches": _finish,
    "receive": lambda c, facts: claims.receive(c, facts.filled.live_worker, facts.chunk_ids),
    "hand back": lambda c, facts: claims.hand_back(c, facts.chunk_ids, after_s=5.0),
    "forget chunks": lambda c, facts: submission.forget_chunks(c, facts.chunk_ids),
    "was it committed": lambda c, facts: ledger.committed_attempts(c, [taken[1].id for taken in facts.running]),
    "renew the lease": lambda c, facts: leases.renew(c, facts.filled.live_worker, 60.0),
    "take the sweep": lambda c, facts: leases.take(c, "sweep", facts.filled.live_worker, 10.0),
    "is it swept": lambda c, facts: leases.held_by_another(c, "sweep", facts.filled.live_worker),
    "sweep: chunks to ring": lambda c, _facts: sweeps.chunks_to_ring(c),
    "sweep: mark published": lambda c, facts: submission.mark_published(c, facts.chunk_ids),
    "sweep: dead workers": lambda c, _facts: sweeps.dead_workers(c),
    "sweep: settle a worker": lambda c, facts: sweeps.settle_worker(c, facts.filled.dead_worker, "sweeper", 10),
    "sweep: cancelled batches": lambda c, _facts: sweeps.cancelled_batches(c),
    "sweep: cancel tasks": _cancel,
    "sweep: close aborted": lambda c, facts: sweeps.close_aborted(c, facts.filled.open),
    "sweep: expire": lambda c, _facts: sweeps.expire_tasks(c, "sweeper"),
    "sweep: lost chunks": _lost,
    "sweep: judge shadows": _judge,
    "sweep: drift": _drift,
    "the active policy": lambda c, _facts: policies.active_version(c),
    "sweep: markers due": lambda c, _facts: sweeps.markers_due(c, 60.0),
    "submit a batch": _new_batch,
    "submit it again": _resumed_batch,
    "publish a batch": lambda c, facts: submission.unpublished(c, facts.filled.open, 100),
    "producer is there": lambda c, facts: submission.see_producer(c, facts.filled.open),
    "progress": lambda c, facts: reading.progress(c, facts.filled.running),
    "tags": lambda c, facts: reading.batch_tags(c, facts.filled.running),
    "ended positions": lambda c, facts: reading.ended_positions(c, facts.filled.running),
    "outcomes": _ended,
    "a page of outcomes": _page,
    "backlog of a tier": lambda c, _facts: backlog.ready_tasks(c, "small"),
    "backlog": lambda c, _facts: backlog.backlog(c),
    "status: batches": lambda c, _facts: reading.recent_batches(c),
    "status: one batch": lambda c, facts: reading.states_by_tier(c, facts.filled.running),
    **{name: (lambda c, _facts, work=work: work(c)) for name, work in ERASURES.items()},
}

LOOKS: dict[str, Callable[[Store, Facts], object]] = {
    "find a batch": lambda store, facts: find_batch(store, facts.filled.running[:30]),
    "find a job": lambda store, facts: find_by_key(store, f"job {facts.filled.running}"),
    "spending of a batch": lambda store, facts: by_model(store, facts.filled.finished),
    "report of a batch": lambda store, facts: make_report(store, Scope(facts.filled.finished), Known()),
    "export, a page": lambda store, _facts: next(records(store)),
}
