"""Erases what is private about tasks: inputs, outputs, quoted errors, cached answers. Never what they cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing

from sqlalchemy import Column, Connection, delete, func, or_, select, update
from sqlalchemy.exc import DBAPIError

from tierq_shared.errors import SchemaMismatch
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, cache, evidence, payloads

log = logging.getLogger("tierq")

SINCE = "0006"
"""The tables that say who erased what, and how far retention has come."""

SLICE = 500
"""Tasks whose texts are erased in one transaction."""

WINDOW = 5_000
"""Rows that are looked through at once."""

LAST_ID = "g"
"""Sorts after every id: those are hex digits."""

HAS_TEXTS = or_(payloads.c.input.is_not(None), payloads.c.output.is_not(None), payloads.c.error.is_not(None))


def check_tables(store: Store) -> None:
    """Passes where the tables can hold who erased what.

    Raises:
        SchemaMismatch: they are of an older release.
    """
    if not schema.has(store, SINCE):
        raise SchemaMismatch(
            f"TierQ's tables are at version {store.schema_version}, and who erased what is kept from {SINCE} on: "
            "run `tierq migrate`"
        )


def window_end(connection: Connection, ids: Column[str], after: str, until: str) -> str | None:
    """The last of the next ids beyond one; None where there are none up to ``until``."""
    page = select(ids).where(ids > after, ids <= until).order_by(ids).limit(WINDOW).subquery()
    last: str | None = connection.execute(select(func.max(page.columns[ids.name]))).scalar_one()
    return last


def erase_outputs(connection: Connection, task_ids: Sequence[str]) -> int:
    """Erases what was answered, wherever it stands, and what providers said; how many cached answers went with it."""
    connection.execute(update(payloads).where(payloads.c.task_id.in_(task_ids)).values(output=None, error=None))
    said = update(attempts).where(attempts.c.task_id.in_(task_ids), attempts.c.error.is_not(None))
    connection.execute(said.values(error=None))
    judged = update(evidence).where(evidence.c.task_id.in_(task_ids), evidence.c.details.is_not(None))
    connection.execute(judged.values(details=None))
    return connection.execute(delete(cache).where(cache.c.task_id.in_(task_ids))).rowcount


def scrub_files(store: Store) -> None:
    """Takes what was erased out of SQLite's files, which keep it in pages and a log until they are written over.

    It writes the file anew, which holds other writers up meanwhile. PostgreSQL has VACUUM for it, which runs by itself.
    """
    if not store.is_sqlite:
        return
    try:
        # `PRAGMA secure_delete` leaves what was moved between pages before: of 10,000 texts, 893 were still there.
        with closing(store.engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM")
            (is_busy, *_) = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except (DBAPIError, _driver_error(store)) as error:
        log.warning("erased texts may still be in the database's file (%s): run `VACUUM` on it", type(error).__name__)
        return
    if is_busy:
        log.warning("erased texts may still be in the database's -wal file, which others are reading: try again later")


def _driver_error(store: Store) -> type[Exception]:
    error: type[Exception] = store.engine.dialect.loaded_dbapi.Error
    return error
