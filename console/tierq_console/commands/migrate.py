"""`tierq migrate`: brings the tables to this release's version."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError

from tierq_console.entry import SOME_FAILED
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, StoreError
from tierq_shared.store import schema
from tierq_shared.store.connection import Store


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a migration is due.")
@click.pass_context
def command(context: click.Context, *, check: bool) -> None:
    """Bring TierQ's tables to this release's version, under a lock: it may run on many hosts at once.

    Run it before new workers start. Tables only ever grow, so workers of the release before go on meanwhile.

    \b
      tierq migrate
      tierq migrate --check && echo up to date
      TIERQ_DATABASE_URL=postgresql://db/app tierq migrate
    """
    store = _store()
    try:
        if check:
            context.exit(_check(store))
        before, after = schema.migrate(store)
    except DBAPIError as error:
        raise StoreError(f"the database cannot be used: {str(error.orig).strip()}") from None
    finally:
        store.close()
    click.echo(f"already at {after}" if before == after else f"migrated from {before or 'no tables'} to {after}")


def _store() -> Store:
    settings = configuration.load(configuration.find_file())
    if settings.database_url is None:
        files = configuration.embedded_paths(settings.path)
        if not files.database.exists():
            raise ConfigurationError(
                "no database is configured: set TIERQ_DATABASE_URL (or database_url in tierq.toml). "
                "The embedded stack migrates its own tables when it starts"
            )
        settings = configuration.with_embedded_urls(settings)
    secret = settings.database_url
    return Store(secret.get_secret_value() if secret else "")


def _check(store: Store) -> int:
    with store.reading() as connection:
        version = schema.current(connection)
    if version is not None and version >= schema.HEAD:
        click.echo(f"at {version}: no migration is due")
        return 0
    click.echo(f"at {version or 'no tables'}: a migration to {schema.HEAD} is due, run `tierq migrate`")
    return SOME_FAILED
