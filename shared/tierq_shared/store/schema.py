"""The schema's version: what this release works with, what the database has, and how one comes to the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, text

from tierq_shared.errors import MissingExtra, SchemaMismatch, SchemaMissing
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import compatibility

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0006"
"""The newest migration of this release."""

COMPATIBLE = frozenset({"0005", "0006"})
"""Versions of this release and the one before that its statements work on; what is newer says so itself."""

VERSION_TABLE = "tierq_alembic_version"
"""Of our own, so that a host application's alembic and ours do not meet."""

_LOCK_ID = 0x7469657271  # "tierq": one migration at a time on PostgreSQL; SQLite has one writer anyway


def current(connection: Connection) -> str | None:
    """The version of TierQ's tables in this database; None where they are not there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return version


def is_usable(connection: Connection, version: str | None) -> bool:
    """Whether this release works on tables of this version: one that it knows, or a newer one that only added to it."""
    if version is None or version in COMPATIBLE:
        return version is not None
    return version > HEAD and connection.execute(select(compatibility.c.works_from)).scalar_one() <= HEAD


def check(store: Store) -> str:
    """Passes when this release works with the tables that are there; their version.

    Raises:
        SchemaMissing: there are none.
        SchemaMismatch: they are of a version that this release does not work with.
    """
    with store.reading() as connection:
        version = current(connection)
        is_ours = is_usable(connection, version)
    if version is None:
        raise SchemaMissing("TierQ's tables are not in this database: run `tierq migrate` against it")
    if not is_ours:
        newer = "upgrade TierQ here: the tables are a newer release's, and have changed since"
        raise SchemaMismatch(
            f"TierQ's tables are at version {version}, this release works with {', '.join(sorted(COMPATIBLE))}: "
            + (newer if version > HEAD else "run `tierq migrate`")
        )
    store.schema_version = version
    return version


def has(store: Store, version: str) -> bool:
    """Whether the tables are at this version or a newer one: what a migration brings is not there before it has run."""
    return (store.schema_version or check(store)) >= version


def migrate(store: Store) -> tuple[str | None, str]:
    """Brings the tables to this release's version; the versions before and after. Newer ones are left as they are.

    Raises:
        MissingExtra: alembic is not installed.
        SchemaMismatch: the tables are a newer release's, which this one does not work with.
    """
    try:
        from alembic import command
    except ModuleNotFoundError:
        raise MissingExtra("migrations need the console extra: pip install 'tierq[console]'") from None
    with store.engine.begin() as connection:
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        before = current(connection)
        if before is not None and before > HEAD:
            return before, check(store)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    store.schema_version = HEAD
    return before, HEAD


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
