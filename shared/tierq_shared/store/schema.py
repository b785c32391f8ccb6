"""The schema's version: what this release works with, what the database has, and how one comes to the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from tierq_shared.errors import MissingExtra, SchemaMismatch, SchemaMissing
from tierq_shared.store.connection import Store

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0003"
"""The newest migration of this release."""

COMPATIBLE = frozenset({"0002", "0003"})
"""Versions that this release's statements work on. Before 0002, retried tasks cannot be told from others."""

VERSION_TABLE = "tierq_alembic_version"
"""Of our own, so that a host application's alembic and ours do not meet."""

_LOCK_ID = 0x7469657271  # "tierq": one migration at a time on PostgreSQL; SQLite has one writer anyway


def current(connection: Connection) -> str | None:
    """The version of TierQ's tables in this database; None where they are not there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return version


def check(store: Store) -> None:
    """Passes when this release works with the tables that are there.

    Raises:
        SchemaMissing: there are none.
        SchemaMismatch: they are of a version that this release does not know.
    """
    with store.reading() as connection:
        version = current(connection)
    if version is None:
        raise SchemaMissing("TierQ's tables are not in this database: run `tierq migrate` against it")
    if version not in COMPATIBLE:
        raise SchemaMismatch(
            f"TierQ's tables are at version {version}, this release works with {', '.join(sorted(COMPATIBLE))}: "
            "run `tierq migrate`, or upgrade TierQ where the tables are newer"
        )


def migrate(store: Store) -> tuple[str | None, str]:
    """Brings the tables to this release's version; the versions before and after.

    Raises:
        MissingExtra: alembic is not installed.
    """
    try:
        from alembic import command
    except ModuleNotFoundError:
        raise MissingExtra("migrations need the console extra: pip install 'tierq[console]'") from None
    with store.engine.begin() as connection:
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        before = current(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, HEAD


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
