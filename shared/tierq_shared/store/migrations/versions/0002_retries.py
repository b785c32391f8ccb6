"""What sending failed tasks again needs: where they are found, and how many of their calls were made before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # With a default of the database's own: the release before adds tasks without naming it.
    op.add_column(
        "tierq_task", sa.Column("uncounted_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index(
        "tierq_task_failed",
        "tierq_task",
        ["batch_id", "error_code", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
        sqlite_where=sa.text("state = 'failed'"),
    )
