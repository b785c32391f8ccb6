"""What routing by evidence, hard caps and the result cache are kept in. New tables, and columns that may be empty."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("tierq_batch", sa.Column("quote", sa.Text(), nullable=True))
    quoted = sa.text("quote IS NOT NULL")
    op.create_index("tierq_batch_quoted", "tierq_batch", ["created_at"], postgresql_where=quoted, sqlite_where=quoted)
    op.add_column("tierq_task", sa.Column("max_cost_nusd", sa.BigInteger(), nullable=True))
    op.add_column("tierq_task", sa.Column("confidence", sa.Float(), nullable=True))
    op.add_column("tierq_task", sa.Column("cached_from", _ID, nullable=True))
    op.add_column("tierq_task", sa.Column("shadow_of", _ID, nullable=True))
    op.create_index(
        "tierq_task_shadow",
        "tierq_task",
        ["finished_at"],
        postgresql_where=sa.text("shadow_of IS NOT NULL AND state = 'succeeded'"),
        sqlite_where=sa.text("shadow_of IS NOT NULL AND state = 'succeeded'"),
    )
    op.add_column("tierq_batch", sa.Column("on_cap", sa.String(), nullable=True))
    op.add_column("tierq_attempt", sa.Column("budgets", sa.Text(), nullable=True))
    _policy()
    _evidence()
    op.create_table(
        "tierq_budget",
        sa.Column("scope", sa.String(), primary_key=True),
        sa.Column("limit_nusd", sa.BigInteger(), nullable=False),
        sa.Column("spent_nusd", sa.BigInteger(), nullable=False),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False),
        sa.Column("reached_at", _TIME, nullable=True),
    )
    op.create_table(
        "tierq_cache",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("is_ready", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
    )
    op.create_index("tierq_cache_expiry", "tierq_cache", ["expires_at"])
    op.create_index("tierq_cache_task", "tierq_cache", ["task_id"])


def _policy() -> None:
    op.create_table(
        "tierq_policy",
        sa.Column("version", sa.String(), primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "tierq_policy_activation",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("activated_at", _TIME, nullable=False),
    )


def _evidence() -> None:
    op.create_table(
        "tierq_evaluation",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("samples_hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
    )
    op.create_table(
        "tierq_evidence",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("evaluation_id", _ID, nullable=True),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("sample", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("details", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_index("tierq_evidence_evaluation", "tierq_evidence", ["evaluation_id"])
    op.create_index("tierq_evidence_kind", "tierq_evidence", ["type", "name", "created_at"])
    op.create_index("tierq_evidence_tier", "tierq_evidence", ["tier", "created_at"])
    op.create_index("tierq_evidence_task", "tierq_evidence", ["task_id"], unique=True)
