"""Tables say which releases work on them: what only adds lets workers of the release before go on."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    table = op.create_table("tierq_compatibility", sa.Column("works_from", sa.String(), primary_key=True))
    op.bulk_insert(table, [{"works_from": "0005"}])
