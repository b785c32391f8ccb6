"""What operators set and did, webhooks on their way, and how far retention has come. New tables, and indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    finished = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "tierq_batch_finished", "tierq_batch", ["finished_at"], postgresql_where=finished, sqlite_where=finished
    )
    reached = sa.text("reached_at IS NOT NULL")
    op.create_index(
        "tierq_budget_reached", "tierq_budget", ["reached_at"], postgresql_where=reached, sqlite_where=reached
    )
    op.create_table(
        "tierq_control",
        sa.Column("scope", sa.String(), primary_key=True),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("rpm", sa.Integer(), nullable=True),
        sa.Column("tpm", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
    )
    op.create_table(
        "tierq_action",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("details", sa.Text(), nullable=True),
    )
    _webhooks()
    op.create_table(
        "tierq_retention",
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("done_until", sa.String(), nullable=False),
        sa.Column("left_at", sa.String(), nullable=True),
        sa.Column("passed_at", _TIME, nullable=True),
    )


def _webhooks() -> None:
    op.create_table(
        "tierq_webhook",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
    )
    op.create_index("tierq_webhook_event", "tierq_webhook", ["event", "endpoint"], unique=True)
    pending = sa.text("state = 'pending'")
    op.create_index("tierq_webhook_due", "tierq_webhook", ["next_at"], postgresql_where=pending, sqlite_where=pending)
