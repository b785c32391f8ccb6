"""Connects to the store, and runs its transactions as each database wants them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from tierq_shared.errors import ConfigurationError, MissingExtra
from tierq_shared.store import sealed

T = TypeVar("T")

_SQLITE_BUSY_S = 30.0
_TRIES = 8

_RETRYABLE_SQLSTATES = {"40001", "40P01", "55P03"}
"""serialization_failure, deadlock_detected, lock_not_available (PostgreSQL, appendix A)."""


_QUOTING_SQLSTATES = {"22", "P0"}
"""Classes of errors whose very message quotes values: data exceptions, and what a trigger raises."""


class Store:
    """The store of one process: reads in transactions of their own, writes that are retried where that is safe."""

    def __init__(self, url: str) -> None:
        # Said at once: inside a statement, SQLAlchemy would wrap it.
        sealed.cipher()
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite lets one writer in and makes the others poll with growing sleeps: inside a process we queue instead.
        self.schema_version = ""
        """The version of its tables when they were last looked at, by `schema.check`."""
        self._turn = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with; nothing it does is kept."""
        with self.engine.connect().execution_options(tierq_read=True) as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs ``work`` in one transaction; deadlocks and broken connections are retried, so it must bear repetition.

        Raises:
            sqlalchemy.exc.DBAPIError: what stays wrong after the retries, or was no passing fault.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                return self.write_once(work)
            except DBAPIError as error:
                if attempt == _TRIES or not is_passing(error):
                    raise
                # Full jitter, so that those who collided do not collide again.
                time.sleep(random.uniform(0, min(2.0, 0.02 * 2**attempt)))  # noqa: S311  # no secret rests on it
        raise AssertionError("unreachable")

    def write_once(self, work: Callable[[Connection], T]) -> T:
        """Runs ``work`` in one transaction, once."""
        if self._turn is None:
            with self.engine.begin() as connection:
                return work(connection)
        with self._turn, self.engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        self.engine.dispose()


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction may well succeed when it is run again."""
    if error.connection_invalidated:
        return True
    if getattr(error.orig, "sqlstate", None) in _RETRYABLE_SQLSTATES:
        return True
    message = str(error.orig).lower()
    return any(
        sign in message for sign in ("database is locked", "database table is locked", "connection", "server closed")
    )


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter quotes the part of a password that it takes for a port
        raise ConfigurationError(
            "the database URL cannot be read: write sqlite:////absolute/path.db or postgresql://user@host/database"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    # Parameters hold prompts and answers: they must not come out with an error's text.
    options: dict[str, Any] = {"hide_parameters": True}
    if parsed.drivername.startswith("sqlite"):
        options["connect_args"] = {"timeout": _SQLITE_BUSY_S, "check_same_thread": False}
    elif parsed.drivername == "postgresql+psycopg":
        options |= {"pool_pre_ping": True, "pool_size": 5, "max_overflow": 10, "pool_recycle": 1800}
    else:
        raise ConfigurationError(f"{parsed.drivername} is no database that TierQ works with: use SQLite or PostgreSQL")
    try:
        engine = create_engine(parsed, **options)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("PostgreSQL needs its driver: pip install 'tierq[postgres]'") from None
    event.listen(engine, "handle_error", _hide_rows)
    if engine.dialect.name == "sqlite":
        _tune_sqlite(engine)
    return engine


def hide_rows(error: DBAPIError) -> None:
    """Takes the rows out of an error's text, and out of the driver's own error that tracebacks show as its cause."""
    error.hide_parameters = True
    if error.orig is not None:
        hide_rows_of_driver(error.orig)
        if _diagnosis(error.orig):
            error.args = (f"({type(error.orig).__name__}) {error.orig}",)


def hide_rows_of_driver(error: BaseException) -> None:
    """The same for a driver's error: PostgreSQL quotes rows in its DETAIL, values in what it says of bad data."""
    diagnosis = _diagnosis(error)
    if diagnosis:
        quotes = (diagnosis.sqlstate or "")[:2] in _QUOTING_SQLSTATES
        error.args = (f"SQLSTATE {diagnosis.sqlstate}" if quotes else diagnosis.message_primary,)


def _diagnosis(error: BaseException) -> Any:
    """What the server said, in parts; None where the error is another's, such as that it cannot be reached."""
    diagnosis = getattr(error, "diag", None)
    return diagnosis if getattr(diagnosis, "message_primary", None) else None


def _hide_rows(context: ExceptionContext) -> None:
    if isinstance(context.sqlalchemy_exception, DBAPIError):
        hide_rows(context.sqlalchemy_exception)


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late, see on_begin
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "cache_size=-16000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once where another wrote in between; so writers
        # take the lock at their start. Readers do too, unless they say that they only read.
        mode = "DEFERRED" if connection.get_execution_options().get("tierq_read") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}")
