"""Dead letters: why tasks of a batch failed, and sending them again. Their attempts stay in the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, literal_column, or_, select, update

from tierq_shared.checks import did_you_mean
from tierq_shared.errors import BatchNotFound, RetryRefused
from tierq_shared.store import schema
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.erasing import SINCE
from tierq_shared.store.failures import calls_in
from tierq_shared.store.outcomes import insert_chunks
from tierq_shared.store.reading import FAILED_CODES, RETRYABLE_CODES, batch_tags
from tierq_shared.store.retention import look_again
from tierq_shared.store.submission import database_now
from tierq_shared.store.tables import attempts, batches, payloads, tasks
from tierq_shared.store.tallies import add_to_tallies

SLICE = 500
"""Tasks sent again in one transaction."""

GROUPS = 10
"""Causes that are told one by one, unless more are asked for."""

_MAX_SHAPES = 1_000
"""Messages told apart; beyond that, a code's further ones count as one cause. So memory stays flat."""

_TALLY = "retry"
"""The `worker_id` under which tasks are taken out of the tallies. Whoever writes there holds the batch's row."""

_FAILED = tasks.c.state == literal_column("'failed'")
"""Spelled out, not bound: a partial index serves only a condition that is known when the statement is planned."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a failed task, as the ledger has it."""

    ordinal: int
    tier: str
    deployment: str
    model: str
    outcome: str
    http_status: int | None
    error: str | None
    """The provider's own message, shortened."""


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A task that failed, with every call that was made for it."""

    task_id: str
    position: int
    key: str | None
    tier: str
    message: str
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed tasks of one cause: one code, and messages that differ in numbers, ids and quoted words alone."""

    code: str
    retryable: bool
    tasks: int
    """How many there are."""
    example: FailedTask
    """The first of them in the order of submission."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed tasks of a batch by cause, the most frequent first."""

    batch_id: str
    total: int
    groups: Sequence[FailureGroup]
    further_groups: int
    """Causes beyond those in ``groups``."""
    further_tasks: int
    """The failed tasks of those."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What sending failed tasks again came to; each count by error code."""

    batch_id: str
    queued: dict[str, int]
    """They are queued again."""
    left_out: dict[str, int]
    """They failed with a code that was not asked for. Where none was named, those that would only fail again."""
    past_deadline: dict[str, int]
    """They would expire at once, and stay failed."""
    erased: dict[str, int] = field(default_factory=dict)
    """Their inputs, or the calls that say what they have cost, are no longer kept: they stay failed."""

    @property
    def total(self) -> int:
        """How many tasks are queued again."""
        return sum(self.queued.values())


def failures(connection: Connection, batch_id: str, limit: int = GROUPS) -> Failures:
    """Why tasks of a batch failed: the ``limit`` most frequent causes, each with an example.

    Raises:
        BatchNotFound: no batch has this id.
    """
    batch_tags(connection, batch_id)
    causes = sorted(_causes(connection, batch_id), key=lambda cause: (-cause.tasks, cause.position))
    shown, further = causes[:limit], causes[limit:]
    examples = _examples(connection, [cause.task_id for cause in shown])
    groups = [
        FailureGroup(cause.code, cause.code in RETRYABLE_CODES, cause.tasks, examples[cause.task_id]) for cause in shown
    ]
    total = sum(cause.tasks for cause in causes)
    return Failures(batch_id, total, groups, len(further), sum(cause.tasks for cause in further))


def retry(store: Store, batch_id: str, codes: Iterable[str] | None = None) -> Retried:
    """Sends a batch's failed tasks again; without ``codes``, those whose failure lay in the circumstances.

    Those are taken that had failed when it began, each once, slice by slice: what fails again meanwhile is left alone.
    The sweeper rings for them.

    Raises:
        BatchNotFound: no batch has this id.
        RetryRefused: the batch is open, cancelled or aborted, or no task can fail with such a code. Nothing is changed.
    """
    order = store.write(lambda connection: _order(connection, batch_id, None if codes is None else set(codes)))
    send = partial(_send_slice, batch_id=batch_id, until=order.until, keeps_retention=schema.has(store, SINCE))
    for code in order.codes:
        last = ""
        while looked := store.write(partial(send, code=code, after=last)):
            _count(order.queued, code, len(looked.sent))
            _count(order.erased, code, looked.erased)
            last = looked.last
    return Retried(batch_id, order.queued, order.left_out, order.past_deadline, order.erased)


# Why tasks failed.


@dataclass(slots=True)
class _Cause:
    code: str
    task_id: str
    position: int
    tasks: int = 0


_MESSAGES = (
    select(tasks.c.id, tasks.c.position, tasks.c.error_code, payloads.c.error)
    .join(payloads, payloads.c.task_id == tasks.c.id)
    # Every failed task has a code; saying so is what makes SQLite's planner take the index of failed tasks.
    .where(tasks.c.batch_id == bindparam("batch"), _FAILED, tasks.c.error_code > "")
    .execution_options(yield_per=1_000)
)

_EXAMPLES = (
    select(tasks.c.id, tasks.c.position, tasks.c.key, tasks.c.tier, tasks.c.error_code, payloads.c.error)
    .join(payloads, payloads.c.task_id == tasks.c.id)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)))
)

_LEDGER = (
    select(attempts)
    .where(attempts.c.task_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.task_id, attempts.c.ordinal)
)


def _causes(connection: Connection, batch_id: str) -> Iterable[_Cause]:
    causes: dict[tuple[str, str], _Cause] = {}
    for row in connection.execute(_MESSAGES, {"batch": batch_id}):
        cause = (row.error_code, _shape(row.error or ""))
        if cause not in causes and len(causes) >= _MAX_SHAPES:
            cause = (row.error_code, "")
        found = causes.setdefault(cause, _Cause(row.error_code, row.id, row.position))
        found.tasks += 1
        if row.position < found.position:
            found.task_id, found.position = row.id, row.position
    return causes.values()


_QUOTED = re.compile(r'"[^"]*"|(?<!\w)\'[^\']*\'(?!\w)')
_ID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b(?=\w*\d)\w{16,}\b")
_NUMBER = re.compile(r"\d+")


def _shape(message: str) -> str:
    """What messages of one cause have in common: the words, without what was quoted, ids and numbers.

    Of a list of calls it is which there were, not how often and in which order.
    """
    if (calls := calls_in(message)) is not None:
        return ", ".join(sorted(set(calls)))
    return _NUMBER.sub("#", _ID.sub("…", _QUOTED.sub("…", message)))


def _examples(connection: Connection, ids: Sequence[str]) -> dict[str, FailedTask]:
    ledger = connection.execute(_LEDGER, {"ids": ids}).all()
    calls = {id_: [_attempt(row) for row in group] for id_, group in groupby(ledger, key=lambda row: row.task_id)}
    return {
        row.id: FailedTask(
            row.id, row.position, row.key, row.tier, row.error or row.error_code, tuple(calls.get(row.id, ()))
        )
        for row in connection.execute(_EXAMPLES, {"ids": ids})
    }


def _attempt(row: Any) -> Attempt:
    return Attempt(row.ordinal, row.tier, row.deployment, row.model, row.outcome, row.http_status, row.error)


# Sending them again.


@dataclass(slots=True)
class _Order:
    """What is to be sent again, and what is not."""

    codes: Sequence[str]
    until: datetime
    """What fails after this is left alone."""
    left_out: dict[str, int]
    past_deadline: dict[str, int]
    queued: dict[str, int] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What became of a slice of failed tasks."""

    last: str
    """The id of the last of them."""
    sent: Sequence[str]
    erased: int
    """How many could not be, since something of them was."""


_BY_CODE = (
    select(tasks.c.error_code, func.count())
    .where(tasks.c.batch_id == bindparam("batch"), _FAILED)
    .group_by(tasks.c.error_code)
)

_PAST_DEADLINE = (
    select(tasks.c.error_code, func.count())
    .where(tasks.c.batch_id == bindparam("batch"), _FAILED)
    .where(tasks.c.error_code.in_(bindparam("codes", expanding=True)), tasks.c.deadline <= now())
    .group_by(tasks.c.error_code)
)

_NEXT = (
    select(tasks.c.id, tasks.c.batch_id, tasks.c.tier, tasks.c.priority, tasks.c.cost_nusd)
    .where(
        tasks.c.batch_id == bindparam("batch"),
        _FAILED,
        tasks.c.error_code == bindparam("code"),
        tasks.c.id > bindparam("after"),
        tasks.c.finished_at <= bindparam("until"),
        or_(tasks.c.deadline.is_(None), tasks.c.deadline > now()),
    )
    .order_by(tasks.c.id)
    .limit(SLICE)
    .with_for_update()
)

_QUEUE = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        state="queued",
        # Whoever ran it last and is not heard of may still come back.
        epoch=tasks.c.epoch + 1,
        uncounted_attempts=tasks.c.attempts,
        error_code=None,
        finished_at=None,
        not_before=None,
        worker_id=None,
        chunk_id=bindparam("new_chunk"),
    )
)

_FORGET_ERROR = update(payloads).where(payloads.c.task_id.in_(bindparam("ids", expanding=True))).values(error=None)

_RUN_AGAIN = (
    update(batches)
    .where(batches.c.id == bindparam("batch"), batches.c.state == "finished")
    .values(state="running", finished_at=None)
)


def _order(connection: Connection, batch_id: str, codes: set[str] | None) -> _Order:
    _hold(connection, batch_id)
    failed: dict[str, int] = dict(connection.execute(_BY_CODE, {"batch": batch_id}).all())
    wanted = set(RETRYABLE_CODES & failed.keys()) if codes is None else codes
    _refuse_unknown(wanted, {*FAILED_CODES, *failed})
    past: dict[str, int] = dict(connection.execute(_PAST_DEADLINE, {"batch": batch_id, "codes": sorted(wanted)}).all())
    return _Order(
        codes=sorted(wanted & failed.keys()),
        until=database_now(connection),
        left_out={code: count for code, count in sorted(failed.items()) if code not in wanted},
        past_deadline=dict(sorted(past.items())),
    )


def _hold(connection: Connection, batch_id: str) -> None:
    """Locks the batch, so that nobody else sends its tasks again or ends it meanwhile.

    Raises:
        BatchNotFound: no batch has this id.
        RetryRefused: its tasks cannot be sent again.
    """
    columns = select(batches.c.state, batches.c.cancelled_at)
    held = connection.execute(columns.where(batches.c.id == batch_id).with_for_update()).one_or_none()
    if held is None:
        raise BatchNotFound(f"no batch has the id {batch_id!r}: `tierq status` lists the batches")
    if held.state == "aborted":
        raise RetryRefused(f"the submission of batch {batch_id} failed half-way, nothing of it runs: submit it again")
    if held.cancelled_at is not None:
        raise RetryRefused(f"batch {batch_id} was cancelled: submit what is left of it as a new batch")
    if held.state == "open":
        raise RetryRefused(f"batch {batch_id} is not wholly submitted yet: retry when all its tasks are in")


def _refuse_unknown(codes: set[str], known: set[str]) -> None:
    for code in sorted(codes - known):
        if code in RETRYABLE_CODES:
            raise RetryRefused(f"tasks with the code {code!r} did not fail: only failed tasks are sent again")
        raise RetryRefused(
            f"no task fails with the code {code!r}{did_you_mean(code, known)}: use {', '.join(sorted(known))}"
        )


_WHOLE = (
    select(tasks.c.id)
    .join(payloads, payloads.c.task_id == tasks.c.id)
    .where(
        tasks.c.id.in_(bindparam("ids", expanding=True)),
        payloads.c.input.is_not(None),
        or_(tasks.c.attempts == 0, exists().where(attempts.c.task_id == tasks.c.id)),
    )
)


def _send_slice(
    connection: Connection, batch_id: str, code: str, until: datetime, after: str, *, keeps_retention: bool = True
) -> _Looked | None:
    """Queues those of the next failed tasks with this code that have all they need; None where there are no more."""
    _hold(connection, batch_id)
    where = {"batch": batch_id, "code": code, "until": until, "after": after}
    held = connection.execute(_NEXT, where).all()
    if not held:
        return None
    # Asked when they are held: from then on nobody erases anything of them.
    whole = set(connection.execute(_WHOLE, {"ids": [row.id for row in held]}).scalars())
    rows = [row for row in held if row.id in whole]
    if rows:
        _queue(connection, batch_id, rows)
    if rows and keeps_retention:
        look_again(connection, rows[0].id)
    return _Looked(held[-1].id, [row.id for row in rows], len(held) - len(rows))


def _queue(connection: Connection, batch_id: str, rows: Sequence[Any]) -> None:
    add_to_tallies(connection, _TALLY, ((row.batch_id, row.tier, "failed", row.cost_nusd) for row in rows), each=-1)
    due = database_now(connection)
    for chunk in insert_chunks(connection, ((row.batch_id, row.tier, row.priority, row.id) for row in rows), due):
        connection.execute(_QUEUE, {"ids": chunk.task_ids, "new_chunk": chunk.id})
    connection.execute(_FORGET_ERROR, {"ids": [row.id for row in rows]})
    connection.execute(_RUN_AGAIN, {"batch": batch_id})


def _count(counts: dict[str, int], code: str, more: int) -> None:
    if more:
        counts[code] = counts.get(code, 0) + more
