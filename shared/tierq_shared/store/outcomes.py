"""Commits what became of attempts and tasks, many at once. An outcome counts only where the epoch is still its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, or_, select, update

from tierq_shared.ids import new_id
from tierq_shared.money import Usage
from tierq_shared.outcomes import TERMINAL
from tierq_shared.queues import CHUNK_SIZE, Chunk
from tierq_shared.store.claims import NewAttempt, insert_attempts
from tierq_shared.store.clock import UtcDateTime, now
from tierq_shared.store.failures import ALL_FAILED, calls_of
from tierq_shared.store.tables import attempts, batches, chunks, decisions, payloads, tasks
from tierq_shared.store.tallies import add_to_tallies, correct_tally


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How one call ended."""

    id: str
    outcome: str
    latency_ms: int
    http_status: int | None = None
    request_id: str | None = None
    usage: Usage | None = None
    cost_nusd: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The task ends in this state."""

    state: str
    output: str | None = field(default=None, repr=False)
    error_code: str | None = None
    error: str | None = None


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


_LOCK = (
    select(
        tasks.c.id,
        tasks.c.epoch,
        tasks.c.state,
        tasks.c.batch_id,
        tasks.c.tier,
        tasks.c.cost_nusd,
        batches.c.cancelled_at,
    )
    .join(batches, batches.c.id == tasks.c.batch_id)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(tasks.c.id)
    .with_for_update(of=tasks)
)

_ANSWER = (
    update(attempts)
    # A sweeper may have called it unknown meanwhile; what was answered still goes into the ledger, and only once.
    .where(attempts.c.id == bindparam("attempt"))
    .where(or_(attempts.c.outcome == "started", attempts.c.outcome == "unknown"))
    .values(
        outcome=bindparam("new_outcome"),
        http_status=bindparam("new_status"),
        request_id=bindparam("new_request_id"),
        latency_ms=bindparam("new_latency"),
        input_tokens=bindparam("new_input"),
        cached_tokens=bindparam("new_cached"),
        cache_write_tokens=bindparam("new_cache_write"),
        output_tokens=bindparam("new_output"),
        reasoning_tokens=bindparam("new_reasoning"),
        cost_nusd=bindparam("new_cost"),
        error=bindparam("new_error"),
    )
)

_END = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(
        state=bindparam("new_state"),
        error_code=bindparam("new_code"),
        cost_nusd=bindparam("new_cost"),
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


def commit_steps(connection: Connection, worker_id: str, steps: Sequence[Step]) -> Committed:
    """Writes a group of steps in one transaction; bears repetition, since each row says whether it was done before."""
    locked = {row.id: row for row in connection.execute(_LOCK, {"ids": sorted({step.task_id for step in steps})})}
    own = [_is_own(step, locked.get(step.task_id)) for step in steps]
    _answer(connection, [step.result for step in steps if step.result is not None])
    late = [step for step, is_own in zip(steps, own, strict=True) if not is_own and step.result is not None]
    counted = [step for step, is_own in zip(steps, own, strict=True) if is_own]
    # An earlier claim's attempt may have got its true cost since this one began, so the ledger is asked again.
    true_costs = _ledger_costs(connection, {step.task_id for step in counted if step.epoch > 1})
    counted = [replace(step, cost_nusd=true_costs.get(step.task_id, step.cost_nusd)) for step in counted]
    _correct_costs(connection, worker_id, [locked[step.task_id] for step in late if step.task_id in locked])
    going_on = [
        (step, step.next)
        for step in counted
        if isinstance(step.next, NewAttempt) and locked[step.task_id].cancelled_at is None
    ]
    # Before each further call is a safe point: a batch that was cancelled meanwhile makes none.
    stopped = [
        step for step in counted if isinstance(step.next, NewAttempt) and locked[step.task_id].cancelled_at is not None
    ]
    ended = [(step, step.next) for step in counted if isinstance(step.next, Ended)]
    ended += [(step, Ended("cancelled", error_code="cancelled", error="the batch was cancelled")) for step in stopped]
    _go_on(connection, worker_id, [attempt for _, attempt in going_on])
    _end(connection, worker_id, ended)
    new_chunks = _requeue(connection, [(step, step.next) for step in counted if isinstance(step.next, Requeued)])
    refused = {step.task_id for step in stopped}
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


def _answer(connection: Connection, results: Sequence[AttemptResult]) -> None:
    if results:
        connection.execute(_ANSWER, [_answer_row(result) for result in results])


def _answer_row(result: AttemptResult) -> dict[str, Any]:
    usage = result.usage
    return {
        "attempt": result.id,
        "new_outcome": result.outcome,
        "new_status": result.http_status,
        "new_request_id": result.request_id,
        "new_latency": result.latency_ms,
        "new_input": usage.input_tokens if usage else None,
        "new_cached": usage.cached_tokens if usage else None,
        "new_cache_write": usage.cache_write_tokens if usage else None,
        "new_output": usage.output_tokens if usage else None,
        "new_reasoning": usage.reasoning_tokens if usage else None,
        "new_cost": result.cost_nusd,
        "new_error": result.error,
    }


def _go_on(connection: Connection, worker_id: str, new: Sequence[NewAttempt]) -> None:
    if not new:
        return
    insert_attempts(connection, worker_id, new)
    raised = update(tasks).where(tasks.c.id.in_([attempt.task_id for attempt in new]))
    connection.execute(raised.values(attempts=tasks.c.attempts + 1))


def _end(connection: Connection, worker_id: str, ended: Sequence[tuple[Step, Ended]]) -> None:
    if not ended:
        return
    connection.execute(
        _END,
        [
            {"task": step.task_id, "new_state": end.state, "new_code": end.error_code, "new_cost": step.cost_nusd}
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


def _ledger_costs(connection: Connection, task_ids: set[str]) -> dict[str, int | None]:
    """What tasks have cost by their attempts; None where any of those is unpriced."""
    if not task_ids:
        return {}
    statement = select(tasks.c.id, _LEDGER_COST).where(tasks.c.id.in_(sorted(task_ids)))
    return {row[0]: row[1] for row in connection.execute(statement)}


def _correct_costs(connection: Connection, worker_id: str, late: Sequence[Any]) -> None:
    """A late answer went into the ledger: its task's cost follows, and the tally's where the task has ended."""
    if not late:
        return
    rows = {row.id: row for row in late}
    true_costs = _ledger_costs(connection, set(rows))
    recompute_costs(connection, sorted(rows))
    for row in rows.values():
        if row.state in TERMINAL and row.id in true_costs:
            correct_tally(connection, worker_id, row.batch_id, row.tier, row.cost_nusd, true_costs[row.id])


_PRICED = case((func.count() == func.count(attempts.c.cost_nusd), func.coalesce(func.sum(attempts.c.cost_nusd), 0)))


# Task by task: of `task_id IN (…)` PostgreSQL's planner expects half the ledger while the table has no statistics.
_LEDGER_COST = select(_PRICED).where(attempts.c.task_id == tasks.c.id).scalar_subquery()


def recompute_costs(connection: Connection, task_ids: Sequence[str]) -> None:
    """Sets tasks' costs to the sum of their attempts'; NULL where any of those is unpriced."""
    connection.execute(update(tasks).where(tasks.c.id.in_(task_ids)).values(cost_nusd=_LEDGER_COST))
