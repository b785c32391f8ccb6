"""The first release's tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tierq_attempt",
        sa.Column("id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("cached_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.String(), nullable=True),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=True),
        sa.Column("worker_id", ID, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "tierq_attempt_open",
        "tierq_attempt",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'started'"),
        sqlite_where=sa.text("outcome = 'started'"),
    )
    op.create_index("tierq_attempt_task", "tierq_attempt", ["task_id"], unique=False)
    op.create_table(
        "tierq_batch",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("streaming", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("max_cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("deadline", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("producer_seen_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("cancelled_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "tierq_batch_cancelled",
        "tierq_batch",
        ["cancelled_at"],
        unique=False,
        postgresql_where=sa.text("cancelled_at IS NOT NULL AND finished_at IS NULL"),
        sqlite_where=sa.text("cancelled_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "tierq_batch_running",
        "tierq_batch",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "tierq_chunk",
        sa.Column("id", ID, nullable=False),
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("published_at", TIME, nullable=True),
        sa.Column("received_at", TIME, nullable=True),
        sa.Column("worker_id", ID, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_tierq_chunk_batch_id"), "tierq_chunk", ["batch_id"], unique=False)
    op.create_index("tierq_chunk_worker", "tierq_chunk", ["worker_id"], unique=False)
    op.create_table(
        "tierq_decision",
        sa.Column("id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("signals", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.String(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tierq_decision_task", "tierq_decision", ["task_id"], unique=False)
    op.create_table(
        "tierq_lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", ID, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tierq_marker",
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("published_at", TIME, nullable=False),
        sa.Column("proves_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("tier", "priority"),
    )
    op.create_table(
        "tierq_payload",
        sa.Column("task_id", ID, nullable=False),
        sa.Column("input", sa.Text(), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_table(
        "tierq_spec",
        sa.Column("id", ID, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prompt_version", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tierq_tally",
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("worker_id", ID, nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("expired", sa.Integer(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "tier", "worker_id"),
    )
    op.create_table(
        "tierq_task",
        sa.Column("id", ID, nullable=False),
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("spec_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("urgency", sa.String(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("deadline", TIME, nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("payload_hash", sa.String(), nullable=False),
        sa.Column("constraints", sa.Text(), nullable=True),
        sa.Column("chunk_id", ID, nullable=True),
        sa.Column("worker_id", ID, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "tierq_task_chunk",
        "tierq_task",
        ["chunk_id"],
        unique=False,
        postgresql_where=sa.text("chunk_id IS NOT NULL"),
        sqlite_where=sa.text("chunk_id IS NOT NULL"),
    )
    op.create_index(
        "tierq_task_deadline",
        "tierq_task",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("deadline IS NOT NULL AND state = 'queued'"),
        sqlite_where=sa.text("deadline IS NOT NULL AND state = 'queued'"),
    )
    op.create_index(
        "tierq_task_key",
        "tierq_task",
        ["batch_id", "key"],
        unique=True,
        postgresql_where=sa.text("key IS NOT NULL"),
        sqlite_where=sa.text("key IS NOT NULL"),
    )
    op.create_index("tierq_task_position", "tierq_task", ["batch_id", "position"], unique=True)
    op.create_index(
        "tierq_task_worker",
        "tierq_task",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "tierq_worker",
        sa.Column("id", ID, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("stopped_at", TIME, nullable=True),
        sa.Column("resting_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
