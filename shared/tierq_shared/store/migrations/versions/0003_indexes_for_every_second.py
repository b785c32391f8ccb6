"""Indexes for what is asked every second: the backlog, what is due, what was lost. Queries work without them, slowly.

They are made in the plain way, which lets nobody write to the table meanwhile: CONCURRENTLY cannot run inside the one
transaction in which migrations run under their lock.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_QUEUED = ["batch_id", "position", "tier", "not_before", "deadline", "created_at"]


def upgrade() -> None:
    _partial("tierq_task_queued", "tierq_task", _QUEUED, "state = 'queued'")
    _partial("tierq_chunk_unpublished", "tierq_chunk", ["not_before"], "published_at IS NULL")
    _partial("tierq_chunk_unreceived", "tierq_chunk", ["tier", "priority", "published_at"], "received_at IS NULL")
    _partial("tierq_batch_open", "tierq_batch", ["created_at"], "state = 'open'")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
