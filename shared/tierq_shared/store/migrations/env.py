"""How alembic runs TierQ's migrations: on the connection it is given, with a version table of TierQ's own."""

from alembic import context

from tierq_shared.store.schema import VERSION_TABLE
from tierq_shared.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
