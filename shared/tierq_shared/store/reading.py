"""Reads batches, progress and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Connection, func, select

from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.errors import BatchNotFound
from tierq_shared.money import Usage
from tierq_shared.outcomes import TERMINAL, Outcome, TaskError, TaskState
from tierq_shared.quoting.figures import Quote
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, batches, is_word, payloads, tallies, tasks

INTERRUPTED_AFTER_S = 60.0
"""An open batch whose producer was not heard of for this long reads as interrupted."""

FAILED_CODES = frozenset(
    {
        "all_deployments_failed",
        "attempts_exhausted",
        "cap_reached",
        "input_erased",
        "internal_error",
        "invalid_output",
        "invalid_request",
        "refused",
        "too_long",
        "unpriced",
        "unrecordable",
    }
)
"""Codes with which tasks fail."""

RETRYABLE_CODES = frozenset({"all_deployments_failed", "attempts_exhausted", "cancelled", "cap_reached", "deadline"})
"""Codes of failures that lie in the circumstances: the same task may succeed another time."""


@dataclass(frozen=True, slots=True)
class TierProgress:
    """Ended tasks of a batch on one tier."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    cost_nusd: int = 0

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. ``total`` is None until the batch is sealed."""

    batch_id: str
    state: str
    """`open`, `interrupted`, `running`, `finished`, `cancelled` or `aborted`."""
    total: int | None
    tiers: dict[str, TierProgress]
    unpriced: int
    """Ended tasks whose cost is not known, and not in ``cost_nusd``."""
    created_at: datetime
    finished_at: datetime | None
    label: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    quote: Quote | None = None
    """What it was quoted at before it was submitted, where it was."""
    max_cost_nusd: int | None = None
    """Its cap; None where it has none."""

    @property
    def succeeded(self) -> int:
        return sum(tier.succeeded for tier in self.tiers.values())

    @property
    def failed(self) -> int:
        return sum(tier.failed for tier in self.tiers.values())

    @property
    def cancelled(self) -> int:
        return sum(tier.cancelled for tier in self.tiers.values())

    @property
    def expired(self) -> int:
        return sum(tier.expired for tier in self.tiers.values())

    @property
    def done(self) -> int:
        return sum(tier.done for tier in self.tiers.values())

    @property
    def cost_nusd(self) -> int:
        return sum(tier.cost_nusd for tier in self.tiers.values())

    @property
    def is_over(self) -> bool:
        """Every task has ended, or the batch was given up."""
        return self.state == "aborted" or (self.total is not None and self.done >= self.total)

    @property
    def quote_error(self) -> float | None:
        """How far the quoted cost is off, as a share of the actual one: 0.05 where 5 % more was quoted than was spent.

        None until it is over, where nothing was quoted or spent, and where some tasks were stopped before their end.
        """
        if self.quote is None or not self.is_over or self.cancelled or self.expired:
            return None
        return self.quote.cost_error(self.cost_nusd)

    @property
    def seconds(self) -> float | None:
        """From its first task's submission to its end; None until it is over."""
        return None if self.finished_at is None else (self.finished_at - self.created_at).total_seconds()


def batch_tags(connection: Connection, batch_id: str) -> dict[str, str]:
    """A batch's own tags.

    Raises:
        BatchNotFound: no batch has this id.
    """
    row = connection.execute(select(batches.c.tags).where(batches.c.id == batch_id)).one_or_none()
    if row is None:
        raise BatchNotFound(f"no batch has the id {batch_id!r}: `tierq status` lists the batches")
    return orjson.loads(row.tags) if row.tags else {}


def progress(connection: Connection, batch_id: str) -> Progress:
    """How far a batch is, from the tallies: its cost does not grow with the batch.

    Raises:
        BatchNotFound: no batch has this id.
    """
    row = connection.execute(_batch_columns().where(batches.c.id == batch_id)).one_or_none()
    if row is None:
        raise BatchNotFound(f"no batch has the id {batch_id!r}: `tierq status` lists the batches")
    return _progress(row, connection.execute(_tally_sums([batch_id])).all())


def recent_batches(connection: Connection, limit: int = 20) -> list[Progress]:
    """The latest batches, newest first."""
    # Ids sort by age, and have an index anyway.
    rows = connection.execute(_batch_columns().order_by(batches.c.id.desc()).limit(limit)).all()
    sums = connection.execute(_tally_sums([row.id for row in rows])).all()
    return [_progress(row, [sum_ for sum_ in sums if sum_.batch_id == row.id]) for row in rows]


def quoted_batches(
    connection: Connection, *, since: datetime | None = None, before: datetime | None = None, limit: int = 1_000
) -> list[Progress]:
    """The latest batches that were quoted, newest first; those that were created in a span of time."""
    statement = _batch_columns().where(batches.c.quote.is_not(None)).order_by(batches.c.created_at.desc()).limit(limit)
    if since is not None:
        statement = statement.where(batches.c.created_at >= since)
    if before is not None:
        statement = statement.where(batches.c.created_at < before)
    return _with_tallies(connection, connection.execute(statement).all())


def progress_of(connection: Connection, batch_ids: Sequence[str]) -> list[Progress]:
    """How far batches are, in no order; those that are there."""
    return _with_tallies(connection, connection.execute(_batch_columns().where(batches.c.id.in_(batch_ids))).all())


def _with_tallies(connection: Connection, rows: Sequence[Any]) -> list[Progress]:
    sums = connection.execute(_tally_sums([row.id for row in rows])).all()
    by_batch = {id_: list(group) for id_, group in groupby(sorted(sums, key=_batch_of), key=_batch_of)}
    return [_progress(row, by_batch.get(row.id, [])) for row in rows]


def _batch_of(row: Any) -> str:
    return str(row.batch_id)


def states_by_tier(connection: Connection, batch_id: str) -> dict[tuple[str, str], int]:
    """How many of a batch's tasks are in each (tier, state). Those that have ended are not counted anew."""
    counts = {
        (tier.tier, state): count
        for tier in connection.execute(_tally_sums([batch_id]))
        for state in ("succeeded", "failed", "cancelled", "expired")
        if (count := int(getattr(tier, state)))
    }
    for state in ("queued", "running"):
        of_tier = select(tasks.c.tier, func.count()).where(is_word(tasks.c.state, state), tasks.c.batch_id == batch_id)
        counts |= {(tier, state): count for tier, count in connection.execute(of_tier.group_by(tasks.c.tier))}
    return counts


def ended_positions(connection: Connection, batch_id: str) -> list[int]:
    """The positions of all ended tasks of a batch."""
    statement = select(tasks.c.position).where(tasks.c.batch_id == batch_id, tasks.c.state.in_(TERMINAL))
    return list(connection.execute(statement).scalars())


Decoder: TypeAlias = Callable[[str, str, Any], Any]
"""Makes a caller's value of a spec's id, a task's type and the stored output; raises ValueError where it cannot."""


def outcomes(
    connection: Connection, batch_id: str, positions: Sequence[int], tags: dict[str, str], decode: Decoder
) -> list[Outcome[Any]]:
    """The outcomes of the ended tasks among these positions, in order. ``tags`` are the batch's own."""
    rows = connection.execute(
        select(tasks)
        .where(tasks.c.batch_id == batch_id, tasks.c.position.in_(positions), tasks.c.state.in_(TERMINAL))
        .order_by(tasks.c.position)
    ).all()
    return _outcomes(connection, rows, tags, decode)


def outcomes_after(
    connection: Connection, batch_id: str, position: int, limit: int, tags: dict[str, str], decode: Decoder
) -> list[Outcome[Any]]:
    """The tasks of a batch in order, beyond a position, as they stand now."""
    rows = connection.execute(
        select(tasks)
        .where(tasks.c.batch_id == batch_id, tasks.c.position > position)
        .order_by(tasks.c.position)
        .limit(limit)
    ).all()
    return _outcomes(connection, rows, tags, decode)


def _batch_columns() -> Any:
    silent = (batches.c.state == "open") & (batches.c.producer_seen_at < now(-INTERRUPTED_AFTER_S))
    return select(batches, silent.label("is_silent"))


def _tally_sums(batch_ids: Sequence[str]) -> Any:
    names = ("succeeded", "failed", "cancelled", "expired", "cost_nusd", "unpriced")
    sums = [func.coalesce(func.sum(tallies.c[name]), 0).label(name) for name in names]
    grouped = select(tallies.c.batch_id, tallies.c.tier, *sums).where(tallies.c.batch_id.in_(batch_ids))
    return grouped.group_by(tallies.c.batch_id, tallies.c.tier)


def _progress(row: Any, sums: Sequence[Any]) -> Progress:
    tiers = {
        sum_.tier: TierProgress(
            int(sum_.succeeded), int(sum_.failed), int(sum_.cancelled), int(sum_.expired), int(sum_.cost_nusd)
        )
        for sum_ in sums
    }
    state = "interrupted" if row.is_silent else row.state
    if row.cancelled_at is not None and state in ("running", "finished"):
        state = "cancelled"
    return Progress(
        batch_id=row.id,
        state=state,
        total=row.total,
        tiers=tiers,
        unpriced=sum(int(sum_.unpriced) for sum_ in sums),
        created_at=row.created_at,
        finished_at=row.finished_at,
        label=row.label,
        tags=orjson.loads(row.tags) if row.tags else {},
        quote=Quote.from_json(row.quote) if row.quote else None,
        max_cost_nusd=row.max_cost_nusd,
    )


def _outcomes(connection: Connection, rows: Sequence[Any], tags: dict[str, str], decode: Decoder) -> list[Outcome[Any]]:
    ledger = connection.execute(
        select(attempts)
        .where(attempts.c.task_id.in_([row.id for row in rows]))
        .order_by(attempts.c.task_id, attempts.c.ordinal)
    ).all()
    calls = {task_id: list(group) for task_id, group in groupby(ledger, key=lambda attempt: attempt.task_id)}
    # Asked by id: in a join, PostgreSQL's planner may take the positions of one batch for many and read all payloads.
    private = select(payloads.c.task_id, payloads.c.output, payloads.c.error)
    found = connection.execute(private.where(payloads.c.task_id.in_([row.id for row in rows])))
    payload_of = {payload.task_id: payload for payload in found}
    return [_outcome(row, payload_of[row.id], calls.get(row.id, []), tags, decode) for row in rows]


def _outcome(row: Any, payload: Any, calls: Sequence[Any], tags: dict[str, str], decode: Decoder) -> Outcome[Any]:
    # Who answered, not who was asked how sure the answer is.
    is_cached = row.cached_from is not None
    answering = (call for call in reversed(calls) if call.lane not in SECOND_OPINIONS)
    last = None if is_cached else next(answering, None)
    state, output, error = TaskState(row.state), None, _error(row, payload.error)
    # The payload is read a little later than the task, which may have ended in between.
    if state is TaskState.SUCCEEDED and payload.output is not None:
        try:
            output = decode(row.spec_id, row.type, orjson.loads(payload.output))
        except ValueError as problem:
            # The JSON Schema was satisfied, the caller's own model was not: that is no success for the caller.
            state, error = TaskState.FAILED, TaskError("invalid_output", str(problem), retryable=False)
    return Outcome(
        task_id=row.id,
        batch_id=row.batch_id,
        position=row.position,
        key=row.key,
        type=row.type,
        tags={**tags, **(orjson.loads(row.tags) if row.tags else {})},
        state=state,
        output=output,
        confidence=row.confidence,
        error=error,
        tier=row.tier,
        deployment=last.deployment if last else None,
        model=last.model if last else None,
        attempts=len(calls) or row.attempts,
        cached=is_cached,
        usage=sum((_usage(call) for call in calls), Usage()),
        cost_nusd=row.cost_nusd,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _error(row: Any, message: str | None) -> TaskError | None:
    if row.error_code is None:
        return None
    return TaskError(row.error_code, message or row.error_code, retryable=row.error_code in RETRYABLE_CODES)


def _usage(call: Any) -> Usage:
    return Usage(
        call.input_tokens or 0,
        call.cached_tokens or 0,
        call.cache_write_tokens or 0,
        call.output_tokens or 0,
        call.reasoning_tokens or 0,
    )
