"""The database's clock. Every time that a decision rests on is read from it, so hosts may disagree about theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"
"""SQLAlchemy's own text for a datetime in SQLite, whose `%f` is seconds with milliseconds."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, with its zone on both stores."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    """The database's time, ``seconds`` from now."""

    name = "tierq_now"
    type = UtcDateTime()
    inherit_cache = True


def now(seconds: float | ColumnElement[float] = 0.0) -> ColumnElement[datetime]:
    """The database's time, plus ``seconds`` (which may be negative, or a bound parameter)."""
    offset = literal(float(seconds), Float) if isinstance(seconds, int | float) else seconds
    return _Now(offset)


def instant(seconds: float = 0.0) -> ColumnElement[datetime]:
    """Like `now`, but read once for the whole statement: an index can be asked about it, row locks do not renew it."""
    return select(now(seconds)).scalar_subquery()


@compiles(_Now, "sqlite")
def _sqlite_now(element: _Now, compiler: Any, **options: Any) -> str:
    return f"strftime('{_SQLITE_FORMAT}', 'now', {compiler.process(element.clauses, **options)} || ' seconds')"


@compiles(_Now, "postgresql")
def _postgresql_now(element: _Now, compiler: Any, **options: Any) -> str:
    # clock_timestamp, not now(): a transaction that waited for locks must not see the time at which it began.
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"
