"""Finds batches in the store: by the prefix of an id, by the key of a job; and lets a job begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import case, select, update

from tierq.reachable import ProducerStore
from tierq_shared import configuration
from tierq_shared.errors import BatchNotFound, ConfigurationError
from tierq_shared.settings import Settings
from tierq_shared.store import reading, schema, submission
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress
from tierq_shared.store.tables import batches

_SHOWN_IDS = 5


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """The configured store, of whose tables this release can make use.

    Raises:
        SchemaMissing: TierQ's tables are not there.
        StoreError: the store cannot be reached.
    """
    if settings.database_url is None:
        raise ConfigurationError("no database is configured: set TIERQ_DATABASE_URL or database_url")
    store = ProducerStore(settings.database_url.get_secret_value())
    try:
        schema.check(store)
        yield store
    finally:
        store.close()


@contextmanager
def store_if_there(settings: Settings) -> Iterator[Store | None]:
    """The configured store, or what an embedded stack has left here; None where none is, of this release."""
    if settings.database_url is None and not configuration.embedded_paths(settings.path).database.exists():
        yield None
        return
    store = ProducerStore(_database_url(settings))
    try:
        with store.reading() as connection:
            is_usable = schema.is_usable(connection, schema.current(connection))
        yield store if is_usable else None
    finally:
        store.close()


def find_batch(store: Store, prefix: str) -> str:
    """The id of the one batch whose id begins like this.

    Raises:
        BatchNotFound: there is none, or more than one.
    """
    # A range, since SQLite uses no index for LIKE. Ids are hex digits: "g" comes after whatever may follow.
    first = prefix.rstrip("…").lower()
    statement = select(batches.c.id).where(batches.c.id >= first, batches.c.id < f"{first}g")
    with store.reading() as connection:
        found = list(connection.execute(statement.order_by(batches.c.id).limit(_SHOWN_IDS)).scalars())
    if not found:
        raise BatchNotFound(f"no batch has an id that begins with {prefix!r}: `tierq status` lists the batches")
    if len(found) > 1:
        raise BatchNotFound(f"more than one batch has an id that begins with {prefix!r}: {', '.join(found)}")
    return str(found[0])


def find_by_key(store: Store, key: str) -> Progress | None:
    """How far the batch is that holds a job's key; None where there is none."""
    with store.reading() as connection:
        row = submission.find_by_key(connection, key)
        return None if row is None else reading.progress(connection, row.id)


def find_ended(settings: Settings, key: str) -> Progress | None:
    """The batch of a job, where all of it has ended: then nothing need be started to write its outcomes."""
    with store_if_there(settings) as store:
        found = None if store is None else find_by_key(store, key)
        return found if found is not None and found.is_over else None


def start_over(store: Store, key: str) -> None:
    """Takes a job's key from the batch that holds it, and stops what is not finished of that batch."""
    stopped = case((batches.c.finished_at.is_(None), now()), else_=batches.c.cancelled_at)
    statement = update(batches).where(batches.c.key == key).values(key=None, cancelled_at=stopped)
    store.write(lambda connection: connection.execute(statement))


def _database_url(settings: Settings) -> str:
    url = configuration.with_embedded_urls(settings).database_url
    return url.get_secret_value() if url else ""
