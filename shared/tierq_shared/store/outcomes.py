"""Commits what became of attempts and tasks, many at once. An outcome counts only where the epoch is still its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from tierq_shared.caps import BATCH, batch_cap, scopes_of
from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.ids import new_id
from tierq_shared.outcomes import TERMINAL
from tierq_shared.queues import CHUNK_SIZE, Chunk
from tierq_shared.store.budgets import Purse, charge, scopes_in, unsettled
from tierq_shared.store.cache import keep_answers
from tierq_shared.store.claims import SETTLES_SOON_S, ClaimedTask, MovedDown
from tierq_shared.store.clock import UtcDateTime, now
from tierq_shared.store.failures import ALL_FAILED, calls_of
from tierq_shared.store.inputs import drop_inputs, is_kept
from tierq_shared.store.ledger import AttemptResult, NewAttempt, answer, insert_attempts, ledger_costs
from tierq_shared.store.tables import batches, chunks, decisions, payloads, tasks
from tierq_shared.store.tallies import add_to_tallies, correct_costs


@dataclass(frozen=True, slots=True)
class Ended:
    """The task ends in this state."""

    state: str
    output: str | None = field(default=None, repr=False)
    error_code: str | None = None
    error: str | None = None
    confidence: float | None = None
    """How sure the output is, from 0 to 1; None where nobody measured it."""
    is_unsure: bool = False
    """It was kept only because the task may go to no higher tier: no answer for identical tasks that may."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The task waits again: on the next tier, until a deployment is due, or because its worker stops."""

    tier: str
    after_s: float = 0.0
    reason: str | None = None
    """Why it changes its tier; None where it does not."""
    policy_version: str = ""
    signals: str = "{}"
    uncounted: int = 0
    """Calls of this claim that do not count against the task's budget."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one attempt came to for its task: the attempt's own result, and what is next."""

    task_id: str
    batch_id: str
    position: int
    tier: str
    epoch: int
    priority: int
    cost_nusd: int | None
    """All of the task's attempts so far; None where any is unpriced."""
    result: AttemptResult | None
    next: Ended | Requeued | NewAttempt


@dataclass(slots=True)
class Committed:
    """What a group came to: which steps counted, and the chunks that are to be published now."""

    counted: list[bool]
    chunks: list[Chunk] = field(default_factory=list)


Locked = Mapping[str, Any]
"""The rows of locked tasks, by id."""

_LOCK = (
    select(
        tasks.c.id,
        tasks.c.epoch,
        tasks.c.state,
        tasks.c.batch_id,
        tasks.c.tier,
        tasks.c.cost_nusd,
        tasks.c.payload_hash,
        tasks.c.constraints,
        batches.c.cancelled_at,
        batches.c.max_cost_nusd.label("batch_cap"),
    )
    .join(batches, batches.c.id == tasks.c.batch_id)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(tasks.c.id)
    .with_for_update(of=tasks)
)


_END = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(
        state=bindparam("new_state"),
        error_code=bindparam("new_code"),
        cost_nusd=bindparam("new_cost"),
        confidence=bindparam("new_confidence"),
        finished_at=now(),
        worker_id=None,
    )
)

_OUTPUT = (
    update(payloads)
    .where(payloads.c.task_id == bindparam("task"))
    .values(output=bindparam("new_output"), error=bindparam("new_error"))
)

_REQUEUE = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(
        state="queued",
        tier=bindparam("new_tier"),
        cost_nusd=bindparam("new_cost"),
        not_before=bindparam("due", type_=UtcDateTime()),
        uncounted_attempts=tasks.c.uncounted_attempts + bindparam("uncounted"),
        chunk_id=bindparam("new_chunk"),
        worker_id=None,
    )
)


def lock_tasks(connection: Connection, steps: Sequence[Step]) -> Locked:
    """Locks the tasks of a group of steps."""
    if not steps:
        return {}
    return {row.id: row for row in connection.execute(_LOCK, {"ids": sorted({step.task_id for step in steps})})}


def commit_steps(connection: Connection, worker_id: str, steps: Sequence[Step]) -> Committed:
    """Writes a group of steps in one transaction; bears repetition, since each row says whether it was done before."""
    purse = Purse()
    committed = write_steps(connection, worker_id, steps, lock_tasks(connection, steps), purse)
    purse.write(connection)
    return committed


def write_steps(
    connection: Connection, worker_id: str, steps: Sequence[Step], locked: Locked, purse: Purse
) -> Committed:
    """The same with tasks that are locked already, and a purse that the caller needs for more and writes."""
    own = [_is_own(step, locked.get(step.task_id)) for step in steps]
    keep_answers(
        connection,
        [locked[step.task_id] for step, is_own in zip(steps, own, strict=True) if is_own and _is_for_others(step)],
    )
    ended_calls = [_told(step.result, locked.get(step.task_id)) for step in steps if step.result is not None]
    before = unsettled(connection, [result.id for result in ended_calls if result.is_capped])
    answer(connection, ended_calls)
    further = [
        (step, _under_its_caps(step.next, locked[step.task_id]))
        for step, is_own in zip(steps, own, strict=True)
        if is_own and isinstance(step.next, NewAttempt)
    ]
    # By one time, so that a day that ends just now has them reserve and write the same budgets.
    is_capped = any(attempt.caps for _, attempt in further)
    at = connection.execute(select(now())).scalar_one() if is_capped else None
    _open(connection, purse, before, [attempt for _, attempt in further], at)
    _settle(purse, before, ended_calls)
    late = [step for step, is_own in zip(steps, own, strict=True) if not is_own and step.result is not None]
    counted = [step for step, is_own in zip(steps, own, strict=True) if is_own]
    # An earlier claim's attempt may have got its true cost since this one began, so the ledger is asked again.
    true_costs = ledger_costs(connection, {step.task_id for step in counted if step.epoch > 1})
    counted = [replace(step, cost_nusd=true_costs.get(step.task_id, step.cost_nusd)) for step in counted]
    correct_costs(connection, worker_id, [locked[step.task_id] for step in late if step.task_id in locked])
    runs_on = [attempt for step, attempt in further if locked[step.task_id].cancelled_at is None]
    going_on, held = _admitted(purse, runs_on, at)
    # Before each further call is a safe point: a batch that was cancelled meanwhile makes none.
    stopped = [
        step for step in counted if isinstance(step.next, NewAttempt) and locked[step.task_id].cancelled_at is not None
    ]
    ended = [(step, step.next) for step in counted if isinstance(step.next, Ended)]
    ended += [(step, Ended("cancelled", error_code="cancelled", error="the batch was cancelled")) for step in stopped]
    _go_on(connection, worker_id, going_on, at)
    _end(connection, worker_id, ended)
    drop_inputs(connection, [step.task_id for step, _ in ended if not is_kept(locked[step.task_id].constraints)])
    requeued = [(step, step.next) for step in counted if isinstance(step.next, Requeued)]
    # Those whose further call no cap has room for wait in the queue: a claim decides whether they may go on.
    requeued += [(step, Requeued(step.tier, after_s=SETTLES_SOON_S)) for step in counted if step.task_id in held]
    new_chunks = _requeue(connection, requeued)
    refused = {step.task_id for step in stopped} | held
    return Committed(
        [is_own and step.task_id not in refused for step, is_own in zip(steps, own, strict=True)], new_chunks
    )


def insert_chunks(connection: Connection, waiting: Iterable[tuple[str, str, int, str]], due: Any = None) -> list[Chunk]:
    """Chunks for tasks given as (batch, tier, priority, task), unpublished, due at once or at a time."""
    groups: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for batch_id, tier, priority, task_id in waiting:
        groups[batch_id, tier, priority].append(task_id)
    cut = [
        Chunk(new_id(), batch_id, tier, priority, ids[start : start + CHUNK_SIZE])
        for (batch_id, tier, priority), ids in groups.items()
        for start in range(0, len(ids), CHUNK_SIZE)
    ]
    at = connection.execute(select(now())).scalar_one()
    rows = [
        {
            "id": chunk.id,
            "batch_id": chunk.batch_id,
            "tier": chunk.tier,
            "priority": chunk.priority,
            "size": len(chunk.task_ids),
            "created_at": at,
            "not_before": due,
        }
        for chunk in cut
    ]
    if rows:
        connection.execute(insert(chunks), rows)
    return cut


def _is_own(step: Step, row: Any) -> bool:
    return row is not None and row.state == "running" and row.epoch == step.epoch


def _told(result: AttemptResult, row: Any) -> AttemptResult:
    """A late answer of a task that has ended keeps its figures alone: what was said may have been erased meanwhile."""
    return replace(result, error=None) if row is not None and row.state in TERMINAL else result


def _is_for_others(step: Step) -> bool:
    return isinstance(step.next, Ended) and step.next.state == "succeeded" and not step.next.is_unsure


def _under_its_caps(attempt: NewAttempt, row: Any) -> NewAttempt:
    """The attempt under its batch's cap as that is now: it may have been raised since the task was claimed."""
    if not attempt.caps or row.batch_cap is None:
        return attempt
    caps = [
        batch_cap(row.batch_id, row.batch_cap, cap.when_reached) if cap.per == BATCH else cap for cap in attempt.caps
    ]
    return replace(attempt, caps=tuple(caps))


def _open(
    connection: Connection, purse: Purse, before: Mapping[str, Any], further: Sequence[NewAttempt], at: datetime | None
) -> None:
    """Locks the budgets of the calls that have ended and of those that are to begin."""
    for row in before.values():
        purse.want(scopes_in(row.budgets))
    for attempt in further:
        purse.want_caps(attempt.caps, at)
    purse.open(connection)


def _settle(purse: Purse, before: Mapping[str, Any], results: Sequence[AttemptResult]) -> None:
    """Only what was open changes a budget, and only once: an answer that comes again finds it ended."""
    outcomes = {id_: (row.outcome, charge(row.cost_nusd, row.reserved_nusd)) for id_, row in before.items()}
    for result in results:
        outcome, counted = outcomes.get(result.id, ("ended", 0))
        if outcome not in ("started", "unknown"):
            continue
        row, was_open = before[result.id], outcome == "started"
        cost = charge(result.cost_nusd, row.reserved_nusd)
        purse.settle(
            scopes_in(row.budgets),
            reserved=-(row.reserved_nusd or 0) if was_open else 0,
            spent=cost if was_open else cost - counted,
        )
        outcomes[result.id] = (result.outcome, cost)


def _admitted(purse: Purse, further: Sequence[NewAttempt], at: datetime | None) -> tuple[list[NewAttempt], set[str]]:
    """The further calls that every cap has room for, which is reserved; and the tasks of the others."""
    admitted: list[NewAttempt] = []
    held: set[str] = set()
    for attempt in further:
        scopes = scopes_of(attempt.caps, at) if attempt.caps and at else []
        if purse.fits(scopes, attempt.reserved_nusd):
            purse.reserve(scopes, attempt.reserved_nusd)
            admitted.append(attempt)
        else:
            held.add(attempt.task_id)
    return admitted, held


def move_down(connection: Connection, moved: Sequence[tuple[ClaimedTask, MovedDown]]) -> list[Chunk]:
    """Queues tasks of a claim on the lower tiers on which caps have room for them; the chunks to publish."""
    steps = [
        (
            Step(task.id, task.batch_id, task.position, task.tier, task.epoch, task.priority, task.cost_nusd, None, to),
            to,
        )
        for task, down in moved
        for to in [Requeued(down.tier, reason=down.reason, policy_version=down.policy_version)]
    ]
    return _requeue(connection, steps)


def _go_on(connection: Connection, worker_id: str, new: Sequence[NewAttempt], begins: datetime | None) -> None:
    if not new:
        return
    insert_attempts(connection, worker_id, new, begins)
    raised = update(tasks).where(tasks.c.id.in_([attempt.task_id for attempt in new]))
    connection.execute(raised.values(attempts=tasks.c.attempts + 1))
    second = [attempt.task_id for attempt in new if attempt.lane in SECOND_OPINIONS]
    if second:
        # Written with the call, not after it: a worker that dies during one must not bring its task nearer its bound.
        uncounted = update(tasks).where(tasks.c.id.in_(second))
        connection.execute(uncounted.values(uncounted_attempts=tasks.c.uncounted_attempts + 1))


def _end(connection: Connection, worker_id: str, ended: Sequence[tuple[Step, Ended]]) -> None:
    if not ended:
        return
    connection.execute(
        _END,
        [
            {
                "task": step.task_id,
                "new_state": end.state,
                "new_code": end.error_code,
                "new_cost": step.cost_nusd,
                "new_confidence": end.confidence,
            }
            for step, end in ended
        ],
    )
    calls = calls_of(connection, [step.task_id for step, end in ended if end.error_code == ALL_FAILED])
    texts = [(step.task_id, end.output, calls.get(step.task_id, end.error)) for step, end in ended]
    connection.execute(
        _OUTPUT, [{"task": task, "new_output": output, "new_error": error} for task, output, error in texts]
    )
    add_to_tallies(
        connection, worker_id, ((step.batch_id, step.tier, end.state, step.cost_nusd) for step, end in ended)
    )


def _requeue(connection: Connection, requeued: Sequence[tuple[Step, Requeued]]) -> list[Chunk]:
    """Puts tasks back into the queue, in new chunks; those that are due at once are returned to be published."""
    due_now: list[Chunk] = []
    spans = sorted({requeue.after_s for _, requeue in requeued})
    for span in spans:
        together = [(step, requeue) for step, requeue in requeued if requeue.after_s == span]
        due = connection.execute(select(now(span))).scalar_one() if span else None
        cut = insert_chunks(
            connection, ((step.batch_id, requeue.tier, step.priority, step.task_id) for step, requeue in together), due
        )
        chunk_of = {task_id: chunk.id for chunk in cut for task_id in chunk.task_ids}
        connection.execute(
            _REQUEUE,
            [
                {
                    "task": step.task_id,
                    "new_tier": requeue.tier,
                    "new_cost": step.cost_nusd,
                    "due": due,
                    "new_chunk": chunk_of[step.task_id],
                    "uncounted": requeue.uncounted,
                }
                for step, requeue in together
            ],
        )
        due_now += cut if not span else []
    _insert_escalations(connection, [(step, requeue) for step, requeue in requeued if requeue.reason])
    return due_now


def _insert_escalations(connection: Connection, escalated: Sequence[tuple[Step, Requeued]]) -> None:
    if not escalated:
        return
    at = connection.execute(select(now())).scalar_one()
    rows = [
        {
            "id": new_id(),
            "task_id": step.task_id,
            "tier": requeue.tier,
            "reason": requeue.reason,
            "signals": requeue.signals,
            "policy_version": requeue.policy_version,
            "created_at": at,
        }
        for step, requeue in escalated
    ]
    connection.execute(insert(decisions), rows)
