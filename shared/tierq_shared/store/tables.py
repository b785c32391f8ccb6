"""The tables, on a registry of their own, so that they live in a host application's database beside its models.

The names and columns of `tierq_batch`, `tierq_spec`, `tierq_task`, `tierq_payload`, `tierq_attempt` and
`tierq_decision` are public, for SQL dashboards. The other tables belong to TierQ alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Index, String, Table, Text, literal_column, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from tierq_shared.store.clock import UtcDateTime
from tierq_shared.store.sealed import Sealed

_registry = registry()
metadata = _registry.metadata


class TierQTable(SQLModel, registry=_registry):
    """The base of TierQ's tables."""


def _id(**options: Any) -> Any:
    """An id column. Ids compare byte by byte: a language's collation would cost time and mean nothing."""
    collated = String(32).with_variant(String(32, collation="C"), "postgresql")
    default = None if options.get("nullable") else ...
    return Field(default, sa_type=collated, **options)


def _time(**options: Any) -> Any:
    return Field(default=None, sa_type=UtcDateTime, **options)


def _text(**options: Any) -> Any:
    return Field(default=None, sa_type=Text, **options)


def _private() -> Any:
    """A text that is encrypted where the environment has keys for it."""
    return Field(default=None, sa_type=Sealed)


def _money() -> Any:
    """Nano-USD; NULL where the price is unknown."""
    return Field(default=None, sa_type=BigInteger)


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the few rows that are still looked for, so that ended tasks cost nothing."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


class BatchRow(TierQTable, table=True):
    """Tasks submitted together; a single task is a batch of one."""

    __tablename__ = "tierq_batch"
    __table_args__ = (
        _partial_index("tierq_batch_running", "created_at", where="state = 'running'"),
        _partial_index("tierq_batch_open", "created_at", where="state = 'open'"),
        _partial_index(
            "tierq_batch_cancelled", "cancelled_at", where="cancelled_at IS NOT NULL AND finished_at IS NULL"
        ),
        _partial_index("tierq_batch_quoted", "created_at", where="quote IS NOT NULL"),
        _partial_index("tierq_batch_finished", "finished_at", where="finished_at IS NOT NULL"),
    )

    id: str = _id(primary_key=True)
    key: str | None = Field(default=None, unique=True)
    """The caller's idempotency key."""
    label: str | None = None
    tags: str | None = _text()
    """JSON."""
    state: str
    """`open → running → finished`, or `aborted`. Cancelling is `cancelled_at`; the tasks carry the state."""
    streaming: bool = False
    """Its chunks are published before it is sealed."""
    total: int | None = None
    """Number of tasks; NULL until it is sealed."""
    max_cost_nusd: int | None = _money()
    """The hard cap on all its attempts together; NULL where there is none."""
    quote: str | None = _text()
    """JSON: what it was quoted at before it was submitted; NULL where it was not."""
    on_cap: str | None = None
    """What its tasks do when that is reached: `wait`, `downgrade` or `fail`, which NULL means too. Not public."""
    deadline: datetime | None = _time()
    created_at: datetime = _time(nullable=False)
    producer_seen_at: datetime | None = _time()
    finished_at: datetime | None = _time()
    cancelled_at: datetime | None = _time()


class SpecRow(TierQTable, table=True):
    """What every task of a kind shares, by the hash of its content."""

    __tablename__ = "tierq_spec"

    id: str = _id(primary_key=True)
    type: str
    name: str
    prompt_version: int
    content: str = _text(nullable=False)
    created_at: datetime = _time(nullable=False)


class TaskRow(TierQTable, table=True):
    """One typed unit of LLM work."""

    __tablename__ = "tierq_task"
    __table_args__ = (
        Index("tierq_task_position", "batch_id", "position", unique=True),
        _partial_index("tierq_task_key", "batch_id", "key", where="key IS NOT NULL", unique=True),
        _partial_index("tierq_task_chunk", "chunk_id", where="chunk_id IS NOT NULL"),
        _partial_index("tierq_task_worker", "worker_id", where="state = 'running'"),
        _partial_index("tierq_task_deadline", "deadline", where="deadline IS NOT NULL AND state = 'queued'"),
        _partial_index("tierq_task_shadow", "finished_at", where="shadow_of IS NOT NULL AND state = 'succeeded'"),
        _partial_index("tierq_task_failed", "batch_id", "error_code", "id", where="state = 'failed'"),
        # All that the backlog is counted by, so that the table itself is not read for it.
        _partial_index(
            "tierq_task_queued",
            *("batch_id", "position", "tier", "not_before", "deadline", "created_at"),
            where="state = 'queued'",
        ),
    )

    id: str = _id(primary_key=True)
    batch_id: str = _id()
    spec_id: str = _id()
    position: int
    key: str | None = None
    type: str
    state: str
    tier: str
    epoch: int = 0
    """Raised by every claim; an outcome counts only while it is still its own."""
    priority: int
    urgency: str
    tags: str | None = _text()
    not_before: datetime | None = _time()
    deadline: datetime | None = _time()
    error_code: str | None = None
    cost_nusd: int | None = _money()
    created_at: datetime = _time(nullable=False)
    finished_at: datetime | None = _time()
    max_cost_nusd: int | None = _money()
    """The hard cap on its attempts together; NULL where there is none."""
    confidence: float | None = None
    """How sure its answer is, from 0 to 1; NULL where nobody measured it."""
    cached_from: str | None = _id(nullable=True)
    """The task whose stored answer this one was given for nothing."""
    shadow_of: str | None = _id(nullable=True)
    """The task that this one repeats on a higher tier, to see whether the answers agree."""
    # Below: not public.
    payload_hash: str
    """SHA-256 over spec and input, to tell a repeated submission from a changed one; empty where it was forgotten."""
    constraints: str | None = _text()
    """JSON: pin, min_tier, max_tier, require, stakes, cache, store_input. NULL for most tasks."""
    chunk_id: str | None = _id(nullable=True)
    """The chunk that carries it while it waits; NULL once claimed."""
    worker_id: str | None = _id(nullable=True)
    attempts: int = 0
    uncounted_attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    """Those of ``attempts`` that do not count against the budget: throttled ones, those that a cascade asked how sure
    an answer is and the answers it found unsure, and all before it was sent again."""


class PayloadRow(TierQTable, table=True):
    """What is private about a task, apart from the rows that are updated often."""

    __tablename__ = "tierq_payload"

    task_id: str = _id(primary_key=True)
    input: str | None = _private()
    output: str | None = _private()
    error: str | None = _private()
    """The message that goes with the task's error_code; it may quote a provider."""


class AttemptRow(TierQTable, table=True):
    """One call to one deployment. Together: the ledger, written ahead of each call."""

    __tablename__ = "tierq_attempt"
    __table_args__ = (
        Index("tierq_attempt_task", "task_id"),
        _partial_index("tierq_attempt_open", "worker_id", where="outcome = 'started'"),
    )

    id: str = _id(primary_key=True)
    task_id: str = _id()
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
    started_at: datetime = _time(nullable=False)
    latency_ms: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nusd: int | None = _money()
    price_version: str | None = None
    # Below: not public.
    reserved_nusd: int | None = _money()
    """The worst case, computed before the call; an attempt of unknown outcome stays charged at it."""
    budgets: str | None = _text()
    """JSON: the scopes of the budgets that it was reserved in. NULL where no cap holds for it."""
    worker_id: str = _id()
    error: str | None = _private()
    """The provider's own message, shortened."""


class DecisionRow(TierQTable, table=True):
    """Why a task went to a tier."""

    __tablename__ = "tierq_decision"
    __table_args__ = (Index("tierq_decision_task", "task_id"),)

    id: str = _id(primary_key=True)
    task_id: str = _id()
    tier: str
    reason: str
    signals: str = _text(nullable=False)
    policy_version: str
    created_at: datetime = _time(nullable=False)


class ChunkRow(TierQTable, table=True):
    """The ids of up to 100 tasks in one broker message; the row lives until none of them needs a claim any more."""

    __tablename__ = "tierq_chunk"
    __table_args__ = (
        Index("tierq_chunk_worker", "worker_id"),
        _partial_index("tierq_chunk_unpublished", "not_before", where="published_at IS NULL"),
        _partial_index("tierq_chunk_unreceived", "tier", "priority", "published_at", where="received_at IS NULL"),
    )

    id: str = _id(primary_key=True)
    batch_id: str = _id(index=True)
    tier: str
    priority: int
    size: int
    created_at: datetime = _time(nullable=False)
    not_before: datetime | None = _time()
    """When it is due, where its tasks have to wait."""
    published_at: datetime | None = _time()
    received_at: datetime | None = _time()
    worker_id: str | None = _id(nullable=True)


class TallyRow(TierQTable, table=True):
    """Counts of ended tasks by batch, tier and the worker that ended them: each worker adds to rows of its own."""

    __tablename__ = "tierq_tally"

    batch_id: str = _id(primary_key=True)
    tier: str = Field(primary_key=True)
    worker_id: str = _id(primary_key=True)
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    cost_nusd: int = Field(default=0, sa_type=BigInteger)
    unpriced: int = 0
    """Ended tasks with an attempt of unknown price."""


class WorkerRow(TierQTable, table=True):
    """One incarnation of a worker process, and its lease."""

    __tablename__ = "tierq_worker"

    id: str = _id(primary_key=True)
    tier: str
    host: str
    pid: int
    release: str
    started_at: datetime = _time(nullable=False)
    lease_until: datetime = _time(nullable=False)
    stopped_at: datetime | None = _time()
    resting_until: datetime | None = _time()
    """While its whole deployment chain rests."""


class PolicyRow(TierQTable, table=True):
    """One version of the policy: rules, chain orders, and the evidence for them. Rows are added, never changed."""

    __tablename__ = "tierq_policy"

    version: str = Field(primary_key=True)
    document: str = _text(nullable=False)
    """JSON of a `PolicyDocument`."""
    created_at: datetime = _time(nullable=False)


class PolicyActivationRow(TierQTable, table=True):
    """A version of the policy was made the active one; the latest row says which one is."""

    __tablename__ = "tierq_policy_activation"

    id: str = _id(primary_key=True)
    version: str
    reason: str
    """`applied by …`, `rolled back by …`, or the drift that moved a row up."""
    activated_at: datetime = _time(nullable=False)


class EvaluationRow(TierQTable, table=True):
    """One run of labelled samples through deployments, so that it can be picked up again and derived from."""

    __tablename__ = "tierq_evaluation"

    id: str = _id(primary_key=True)
    label: str | None = None
    samples_hash: str
    """SHA-256 over the samples, to tell a repeated run from another one."""
    document: str = _text(nullable=False)
    """JSON: deployments, batches, cap, scorer."""
    created_at: datetime = _time(nullable=False)
    finished_at: datetime | None = _time()


class EvidenceRow(TierQTable, table=True):
    """How good one answer of one deployment was: of an evaluation's sample, or of a shadowed live task."""

    __tablename__ = "tierq_evidence"
    __table_args__ = (
        Index("tierq_evidence_evaluation", "evaluation_id"),
        Index("tierq_evidence_kind", "type", "name", "created_at"),
        Index("tierq_evidence_tier", "tier", "created_at"),
        Index("tierq_evidence_task", "task_id", unique=True),
    )

    id: str = _id(primary_key=True)
    source: str
    """`evaluation` or `shadow`."""
    evaluation_id: str | None = _id(nullable=True)
    task_id: str = _id()
    """The task whose answer was judged; one row a task."""
    sample: str
    """What the answers of several deployments are paired by: the sample's key, or the shadowed task's id."""
    type: str
    name: str
    input_tokens: int
    tier: str
    deployment: str
    model: str
    score: float
    """From 0 (wrong) to 1 (right); for Extract the share of fields that are right."""
    details: str | None = _private()
    """JSON: what the score is made of, such as the label expected and the one given."""
    confidence: float | None = None
    failed: bool = False
    cost_nusd: int | None = _money()
    latency_ms: int | None = None
    created_at: datetime = _time(nullable=False)


class BudgetRow(TierQTable, table=True):
    """What was spent and what is reserved under one cap, such as `batch:ID` or `day:2026-11-24:team=search`."""

    __tablename__ = "tierq_budget"
    __table_args__ = (_partial_index("tierq_budget_reached", "reached_at", where="reached_at IS NOT NULL"),)

    scope: str = Field(primary_key=True)
    limit_nusd: int = Field(sa_type=BigInteger)
    spent_nusd: int = Field(default=0, sa_type=BigInteger)
    """By attempts that have ended; those of unknown outcome or unknown cost at their worst case."""
    reserved_nusd: int = Field(default=0, sa_type=BigInteger)
    """By attempts under way, at their worst case."""
    reached_at: datetime | None = _time()
    """When a call was first held back that no settlement could make room for; NULL again once the limit is changed."""


class CacheRow(TierQTable, table=True):
    """An answer that identical tasks may be given for nothing, or the task that is about to make one."""

    __tablename__ = "tierq_cache"
    __table_args__ = (Index("tierq_cache_expiry", "expires_at"), Index("tierq_cache_task", "task_id"))

    key: str = Field(primary_key=True)
    """SHA-256 over spec (with its prompt version), input and tier."""
    task_id: str = _id()
    is_ready: bool = False
    """False while the task is under way: identical tasks wait for it and share its call."""
    created_at: datetime = _time(nullable=False)
    expires_at: datetime | None = _time()


class CompatibilityRow(TierQTable, table=True):
    """One row: which releases go on working on these tables, so that a migration need not wait for the last of them."""

    __tablename__ = "tierq_compatibility"

    works_from: str = Field(primary_key=True)
    """The oldest version whose release works here. A migration that takes away what was there raises it."""


class LeaseRow(TierQTable, table=True):
    """A named lease, such as the sweeper's: one holder at a time."""

    __tablename__ = "tierq_lease"

    name: str = Field(primary_key=True)
    holder: str = _id()
    until: datetime = _time(nullable=False)


class MarkerRow(TierQTable, table=True):
    """A message that only asks whether those published before it still come through. One a queue and priority."""

    __tablename__ = "tierq_marker"

    tier: str = Field(primary_key=True)
    priority: int = Field(primary_key=True)
    published_at: datetime = _time(nullable=False)
    """When the latest marker was published."""
    proves_until: datetime | None = _time()
    """When the latest marker that was received had been published: what went out well before it is not queued."""


class ControlRow(TierQTable, table=True):
    """What an operator has set for a tier, a deployment or a batch, until it is set otherwise."""

    __tablename__ = "tierq_control"

    scope: str = Field(primary_key=True)
    """`tier:NAME`, `deployment:NAME`, `limit:NAME` or `batch:ID`."""
    paused_at: datetime | None = _time()
    """Nothing new is begun while it is set."""
    rpm: int | None = None
    """In place of the configured limit; NULL where that holds."""
    tpm: int | None = None
    priority: int | None = None
    """Of a batch, in place of its tasks' own; NULL where those hold."""


class ActionRow(TierQTable, table=True):
    """Who did what: one row for everything that an operator changed."""

    __tablename__ = "tierq_action"

    id: str = _id(primary_key=True)
    at: datetime = _time(nullable=False)
    actor: str
    """`user@host`, or what `TIERQ_ACTOR` said."""
    action: str
    target: str
    details: str | None = _text()
    """JSON."""


class WebhookRow(TierQTable, table=True):
    """One event on its way to one endpoint, and what became of it."""

    __tablename__ = "tierq_webhook"
    __table_args__ = (
        Index("tierq_webhook_event", "event", "endpoint", unique=True),
        _partial_index("tierq_webhook_due", "next_at", where="state = 'pending'"),
    )

    id: str = _id(primary_key=True)
    """The message's id, the same for every try."""
    event: str
    """What happened, so that it is told once: its type and what it is about."""
    endpoint: str
    """The URL without what may be secret in it."""
    body: str = _text(nullable=False)
    """JSON; ids, counts and costs, nothing private."""
    state: str
    """`pending`, `delivered` or `failed`; `since` where the row only says from when on an endpoint is told."""
    tries: int = 0
    created_at: datetime = _time(nullable=False)
    next_at: datetime | None = _time()
    ended_at: datetime | None = _time()
    http_status: int | None = None
    error: str | None = _text()


class RetentionRow(TierQTable, table=True):
    """How far what is no longer to be kept has been erased. Ids sort by age."""

    __tablename__ = "tierq_retention"

    kind: str = Field(primary_key=True)
    """`input`, `output` or `attempts`."""
    done_until: str = ""
    """The id up to which it has been looked at."""
    left_at: str | None = None
    """The first id that had to be left, since its task had not ended: where the next pass begins."""
    passed_at: datetime | None = _time()
    """When the last pass ended."""


def _table(model: type[SQLModel]) -> Table:
    return model.__table__  # type: ignore[attr-defined, no-any-return]


batches = _table(BatchRow)
specs = _table(SpecRow)
tasks = _table(TaskRow)
payloads = _table(PayloadRow)
attempts = _table(AttemptRow)
decisions = _table(DecisionRow)
chunks = _table(ChunkRow)
tallies = _table(TallyRow)
workers = _table(WorkerRow)
leases = _table(LeaseRow)
markers = _table(MarkerRow)
policies = _table(PolicyRow)
policy_activations = _table(PolicyActivationRow)
evaluations = _table(EvaluationRow)
evidence = _table(EvidenceRow)
budgets = _table(BudgetRow)
cache = _table(CacheRow)
compatibility = _table(CompatibilityRow)
controls = _table(ControlRow)
actions = _table(ActionRow)
webhooks = _table(WebhookRow)
retention = _table(RetentionRow)
"""The same tables for Core statements: hot paths pay 7 to 27 µs a row with them, and about 100 with ORM objects."""


def is_word(column: Column[str], word: str) -> ColumnElement[bool]:
    """`column = 'word'`, with one of our own words in the statement itself.

    As a parameter it would hide from a prepared statement's plan that a partial index holds all that is looked for.
    """
    return column == literal_column(f"'{word}'")
