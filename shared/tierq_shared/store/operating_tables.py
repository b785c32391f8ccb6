"""What operators set and did, webhooks on their way, and how far retention has come."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import Field

from tierq_shared.store.columns import TierQTable, id_column, partial_index, text_column, time_column


class ControlRow(TierQTable, table=True):
    """What an operator has set for a tier, a deployment or a batch, until it is set otherwise."""

    __tablename__ = "tierq_control"

    scope: str = Field(primary_key=True)
    """`tier:NAME`, `deployment:NAME`, `limit:NAME` or `batch:ID`."""
    paused_at: datetime | None = time_column()
    """Nothing new is begun while it is set."""
    rpm: int | None = None
    """In place of the configured limit; NULL where that holds."""
    tpm: int | None = None
    priority: int | None = None
    """Of a batch, in place of its tasks' own; NULL where those hold."""


class ActionRow(TierQTable, table=True):
    """Who did what: one row for everything that an operator changed."""

    __tablename__ = "tierq_action"

    id: str = id_column(primary_key=True)
    at: datetime = time_column(nullable=False)
    actor: str
    """`user@host`, or what `TIERQ_ACTOR` said."""
    action: str
    target: str
    details: str | None = text_column()
    """JSON."""


class WebhookRow(TierQTable, table=True):
    """One event on its way to one endpoint, and what became of it."""

    __tablename__ = "tierq_webhook"
    __table_args__ = (
        Index("tierq_webhook_event", "event", "endpoint", unique=True),
        partial_index("tierq_webhook_due", "next_at", where="state = 'pending'"),
    )

    id: str = id_column(primary_key=True)
    """The message's id, the same for every try."""
    event: str
    """What happened, so that it is told once: its type and what it is about."""
    endpoint: str
    """The URL without what may be secret in it."""
    body: str = text_column(nullable=False)
    """JSON; ids, counts and costs, nothing private."""
    state: str
    """`pending`, `delivered` or `failed`; `since` where the row only says from when on an endpoint is told."""
    tries: int = 0
    created_at: datetime = time_column(nullable=False)
    next_at: datetime | None = time_column()
    ended_at: datetime | None = time_column()
    http_status: int | None = None
    error: str | None = text_column()


class RetentionRow(TierQTable, table=True):
    """How far what is no longer to be kept has been erased. Ids sort by age."""

    __tablename__ = "tierq_retention"

    kind: str = Field(primary_key=True)
    """`input`, `output` or `attempts`."""
    done_until: str = ""
    """The id up to which it has been looked at."""
    left_at: str | None = None
    """The first id that had to be left, since its task had not ended: where the next pass begins."""
    passed_at: datetime | None = time_column()
    """When the last pass ended."""
