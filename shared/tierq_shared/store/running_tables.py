"""What keeps the work going: chunks, tallies, workers with their leases, markers, and which releases may run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from tierq_shared.store.columns import TierQTable, id_column, partial_index, time_column


class ChunkRow(TierQTable, table=True):
    """The ids of up to 100 tasks in one broker message; the row lives until none of them needs a claim any more."""

    __tablename__ = "tierq_chunk"
    __table_args__ = (
        Index("tierq_chunk_worker", "worker_id"),
        partial_index("tierq_chunk_unpublished", "not_before", where="published_at IS NULL"),
        partial_index("tierq_chunk_unreceived", "tier", "priority", "published_at", where="received_at IS NULL"),
    )

    id: str = id_column(primary_key=True)
    batch_id: str = id_column(index=True)
    tier: str
    priority: int
    size: int
    created_at: datetime = time_column(nullable=False)
    not_before: datetime | None = time_column()
    """When it is due, where its tasks have to wait."""
    published_at: datetime | None = time_column()
    received_at: datetime | None = time_column()
    worker_id: str | None = id_column(nullable=True)


class TallyRow(TierQTable, table=True):
    """Counts of ended tasks by batch, tier and the worker that ended them: each worker adds to rows of its own."""

    __tablename__ = "tierq_tally"

    batch_id: str = id_column(primary_key=True)
    tier: str = Field(primary_key=True)
    worker_id: str = id_column(primary_key=True)
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

    id: str = id_column(primary_key=True)
    tier: str
    host: str
    pid: int
    release: str
    started_at: datetime = time_column(nullable=False)
    lease_until: datetime = time_column(nullable=False)
    stopped_at: datetime | None = time_column()
    resting_until: datetime | None = time_column()
    """While its whole deployment chain rests."""


class CompatibilityRow(TierQTable, table=True):
    """One row: which releases go on working on these tables, so that a migration need not wait for the last of them."""

    __tablename__ = "tierq_compatibility"

    works_from: str = Field(primary_key=True)
    """The oldest version whose release works here. A migration that takes away what was there raises it."""


class LeaseRow(TierQTable, table=True):
    """A named lease, such as the sweeper's: one holder at a time."""

    __tablename__ = "tierq_lease"

    name: str = Field(primary_key=True)
    holder: str = id_column()
    until: datetime = time_column(nullable=False)


class MarkerRow(TierQTable, table=True):
    """A message that only asks whether those published before it still come through. One a queue and priority."""

    __tablename__ = "tierq_marker"

    tier: str = Field(primary_key=True)
    priority: int = Field(primary_key=True)
    published_at: datetime = time_column(nullable=False)
    """When the latest marker was published."""
    proves_until: datetime | None = time_column()
    """When the latest marker that was received had been published: what went out well before it is not queued."""
