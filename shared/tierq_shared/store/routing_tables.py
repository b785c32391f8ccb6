"""What routing goes by, and what bounds the spending: policies, evidence, budgets, and the cache."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index
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


class PolicyRow(TierQTable, table=True):
    """One version of the policy: rules, chain orders, and the evidence for them. Rows are added, never changed."""

    __tablename__ = "tierq_policy"

    version: str = Field(primary_key=True)
    document: str = text_column(nullable=False)
    """JSON of a `PolicyDocument`."""
    created_at: datetime = time_column(nullable=False)


class PolicyActivationRow(TierQTable, table=True):
    """A version of the policy was made the active one; the latest row says which one is."""

    __tablename__ = "tierq_policy_activation"

    id: str = id_column(primary_key=True)
    version: str
    reason: str
    """`applied by …`, `rolled back by …`, or the drift that moved a row up."""
    activated_at: datetime = time_column(nullable=False)


class EvaluationRow(TierQTable, table=True):
    """One run of labelled samples through deployments, so that it can be picked up again and derived from."""

    __tablename__ = "tierq_evaluation"

    id: str = id_column(primary_key=True)
    label: str | None = None
    samples_hash: str
    """SHA-256 over the samples, to tell a repeated run from another one."""
    document: str = text_column(nullable=False)
    """JSON: deployments, batches, cap, scorer."""
    created_at: datetime = time_column(nullable=False)
    finished_at: datetime | None = time_column()


class EvidenceRow(TierQTable, table=True):
    """How good one answer of one deployment was: of an evaluation's sample, or of a shadowed live task."""

    __tablename__ = "tierq_evidence"
    __table_args__ = (
        Index("tierq_evidence_evaluation", "evaluation_id"),
        Index("tierq_evidence_kind", "type", "name", "created_at"),
        Index("tierq_evidence_tier", "tier", "created_at"),
        Index("tierq_evidence_task", "task_id", unique=True),
    )

    id: str = id_column(primary_key=True)
    source: str
    """`evaluation` or `shadow`."""
    evaluation_id: str | None = id_column(nullable=True)
    task_id: str = id_column()
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
    details: str | None = private_column()
    """JSON: what the score is made of, such as the label expected and the one given."""
    confidence: float | None = None
    failed: bool = False
    cost_nusd: int | None = money_column()
    latency_ms: int | None = None
    created_at: datetime = time_column(nullable=False)


class BudgetRow(TierQTable, table=True):
    """What was spent and what is reserved under one cap, such as `batch:ID` or `day:2026-11-24:team=search`."""

    __tablename__ = "tierq_budget"
    __table_args__ = (partial_index("tierq_budget_reached", "reached_at", where="reached_at IS NOT NULL"),)

    scope: str = Field(primary_key=True)
    limit_nusd: int = Field(sa_type=BigInteger)
    spent_nusd: int = Field(default=0, sa_type=BigInteger)
    """By attempts that have ended; those of unknown outcome or unknown cost at their worst case."""
    reserved_nusd: int = Field(default=0, sa_type=BigInteger)
    """By attempts under way, at their worst case."""
    reached_at: datetime | None = time_column()
    """When a call was first held back that no settlement could make room for; NULL again once the limit is changed."""


class CacheRow(TierQTable, table=True):
    """An answer that identical tasks may be given for nothing, or the task that is about to make one."""

    __tablename__ = "tierq_cache"
    __table_args__ = (Index("tierq_cache_expiry", "expires_at"), Index("tierq_cache_task", "task_id"))

    key: str = Field(primary_key=True)
    """SHA-256 over spec (with its prompt version), input and tier."""
    task_id: str = id_column()
    is_ready: bool = False
    """False while the task is under way: identical tasks wait for it and share its call."""
    created_at: datetime = time_column(nullable=False)
    expires_at: datetime | None = time_column()
