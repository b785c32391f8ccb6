"""The public tables: batches, specs, tasks with their payloads, the ledger of attempts, and decisions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field

from tierq_shared.store.columns import (
    TierQTable,
    id_column,
    money_column,
    partial_index,
    private_column,
    text_column,
    time_column,
)


class BatchRow(TierQTable, table=True):
    """Tasks submitted together; a single task is a batch of one."""

    __tablename__ = "tierq_batch"
    __table_args__ = (
        partial_index("tierq_batch_running", "created_at", where="state = 'running'"),
        partial_index("tierq_batch_open", "created_at", where="state = 'open'"),
        partial_index(
            "tierq_batch_cancelled", "cancelled_at", where="cancelled_at IS NOT NULL AND finished_at IS NULL"
        ),
        partial_index("tierq_batch_quoted", "created_at", where="quote IS NOT NULL"),
        partial_index("tierq_batch_finished", "finished_at", where="finished_at IS NOT NULL"),
    )

    id: str = id_column(primary_key=True)
    key: str | None = Field(default=None, unique=True)
    """The caller's idempotency key."""
    label: str | None = None
    tags: str | None = text_column()
    """JSON."""
    state: str
    """`open → running → finished`, or `aborted`. Cancelling is `cancelled_at`; the tasks carry the state."""
    streaming: bool = False
    """Its chunks are published before it is sealed."""
    total: int | None = None
    """Number of tasks; NULL until it is sealed."""
    max_cost_nusd: int | None = money_column()
    """The hard cap on all its attempts together; NULL where there is none."""
    quote: str | None = text_column()
    """JSON: what it was quoted at before it was submitted; NULL where it was not."""
    on_cap: str | None = None
    """What its tasks do when that is reached: `wait`, `downgrade` or `fail`, which NULL means too. Not public."""
    deadline: datetime | None = time_column()
    created_at: datetime = time_column(nullable=False)
    producer_seen_at: datetime | None = time_column()
    finished_at: datetime | None = time_column()
    cancelled_at: datetime | None = time_column()


class SpecRow(TierQTable, table=True):
    """What every task of a kind shares, by the hash of its content."""

    __tablename__ = "tierq_spec"

    id: str = id_column(primary_key=True)
    type: str
    name: str
    prompt_version: int
    content: str = text_column(nullable=False)
    created_at: datetime = time_column(nullable=False)


class TaskRow(TierQTable, table=True):
    """One typed unit of LLM work."""

    __tablename__ = "tierq_task"
    __table_args__ = (
        Index("tierq_task_position", "batch_id", "position", unique=True),
        partial_index("tierq_task_key", "batch_id", "key", where="key IS NOT NULL", unique=True),
        partial_index("tierq_task_chunk", "chunk_id", where="chunk_id IS NOT NULL"),
        partial_index("tierq_task_worker", "worker_id", where="state = 'running'"),
        partial_index("tierq_task_deadline", "deadline", where="deadline IS NOT NULL AND state = 'queued'"),
        partial_index("tierq_task_shadow", "finished_at", where="shadow_of IS NOT NULL AND state = 'succeeded'"),
        partial_index("tierq_task_failed", "batch_id", "error_code", "id", where="state = 'failed'"),
        # All that the backlog is counted by, so that the table itself is not read for it.
        partial_index(
            "tierq_task_queued",
            *("batch_id", "position", "tier", "not_before", "deadline", "created_at"),
            where="state = 'queued'",
        ),
    )

    id: str = id_column(primary_key=True)
    batch_id: str = id_column()
    spec_id: str = id_column()
    position: int
    key: str | None = None
    type: str
    state: str
    tier: str
    epoch: int = 0
    """Raised by every claim; an outcome counts only while it is still its own."""
    priority: int
    urgency: str
    tags: str | None = text_column()
    not_before: datetime | None = time_column()
    deadline: datetime | None = time_column()
    error_code: str | None = None
    cost_nusd: int | None = money_column()
    created_at: datetime = time_column(nullable=False)
    finished_at: datetime | None = time_column()
    max_cost_nusd: int | None = money_column()
    """The hard cap on its attempts together; NULL where there is none."""
    confidence: float | None = None
    """How sure its answer is, from 0 to 1; NULL where nobody measured it."""
    cached_from: str | None = id_column(nullable=True)
    """The task whose stored answer this one was given for nothing."""
    shadow_of: str | None = id_column(nullable=True)
    """The task that this one repeats on a higher tier, to see whether the answers agree."""
    # Below: not public.
    payload_hash: str
    """SHA-256 over spec and input, to tell a repeated submission from a changed one; empty where it was forgotten."""
    constraints: str | None = text_column()
    """JSON: pin, min_tier, max_tier, require, stakes, cache, store_input. NULL for most tasks."""
    chunk_id: str | None = id_column(nullable=True)
    """The chunk that carries it while it waits; NULL once claimed."""
    worker_id: str | None = id_column(nullable=True)
    attempts: int = 0
    uncounted_attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    """Those of ``attempts`` that do not count against the budget: throttled ones, those that a cascade asked how sure
    an answer is and the answers it found unsure, and all before it was sent again."""


class PayloadRow(TierQTable, table=True):
    """What is private about a task, apart from the rows that are updated often."""

    __tablename__ = "tierq_payload"

    task_id: str = id_column(primary_key=True)
    input: str | None = private_column()
    output: str | None = private_column()
    error: str | None = private_column()
    """The message that goes with the task's error_code; it may quote a provider."""


class AttemptRow(TierQTable, table=True):
    """One call to one deployment. Together: the ledger, written ahead of each call."""

    __tablename__ = "tierq_attempt"
    __table_args__ = (
        Index("tierq_attempt_task", "task_id"),
        partial_index("tierq_attempt_open", "worker_id", where="outcome = 'started'"),
    )

    id: str = id_column(primary_key=True)
    task_id: str = id_column()
    epoch: int
    ordinal: int
    """1 for a task's first call, and so on over all deployments and tiers."""
    tier: str
    deployment: str
    provider: str
    model: str
    lane: str = "call"
    """What the call was for: `call`, `reask` for the one corrective re-ask, or of a cascade `sample`, a further answer
    to compare, and `verify`, a verifier's verdict."""
    outcome: str
    http_status: int | None = None
    request_id: str | None = None
    started_at: datetime = time_column(nullable=False)
    latency_ms: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nusd: int | None = money_column()
    price_version: str | None = None
    # Below: not public.
    reserved_nusd: int | None = money_column()
    """The worst case, computed before the call; an attempt of unknown outcome stays charged at it."""
    budgets: str | None = text_column()
    """JSON: the scopes of the budgets that it was reserved in. NULL where no cap holds for it."""
    worker_id: str = id_column()
    error: str | None = private_column()
    """The provider's own message, shortened."""


class DecisionRow(TierQTable, table=True):
    """Why a task went to a tier."""

    __tablename__ = "tierq_decision"
    __table_args__ = (Index("tierq_decision_task", "task_id"),)

    id: str = id_column(primary_key=True)
    task_id: str = id_column()
    tier: str
    reason: str
    signals: str = text_column(nullable=False)
    policy_version: str
    created_at: datetime = time_column(nullable=False)
