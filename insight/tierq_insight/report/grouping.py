"""Sums by group over many rows, without sorting them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Table,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.sqlite import insert

Keys = Mapping[str, ColumnElement[Any]]

_SETTINGS = (
    "work_mem = '64MB'",
    "enable_sort = off",
    "jit = off",
    "parallel_tuple_cost = 0",
    "parallel_setup_cost = 0",
)


def tune(connection: Connection) -> None:
    """Lets PostgreSQL see one moment of the store in all of this transaction, as SQLite does, and add up in memory.

    It takes each group for a row of its own, and would sort a million rows to find two thousand groups (measured: 2.9 s
    of 3.9); compiling the statement costs more than it saves; other cores may help with the reading.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        for setting in _SETTINGS:
            connection.execute(text(f"SET LOCAL {setting}"))


def grouped(
    connection: Connection, keys: Keys, sums: Keys, source: FromClause, conditions: Sequence[ColumnElement[bool]]
) -> list[Any]:
    """``SELECT keys, count(*) AS rows, sum(sums) … GROUP BY keys``; no key may be NULL, and NULLs add nothing.

    SQLite can only group what is sorted. A temporary table with a row a group, to which each row adds itself, took half
    the time (1.7 s instead of 3.1 for a million rows).
    """
    if connection.dialect.name == "sqlite":
        return _added_up(connection, keys, sums, source, conditions)
    selected = [key.label(name) for name, key in keys.items()]
    totals = [func.coalesce(func.sum(value), 0).label(name) for name, value in sums.items()]
    statement = select(*selected, func.count().label("rows"), *totals).select_from(source).where(*conditions)
    # By number: some names are those of columns too, which PostgreSQL would take them for.
    return list(connection.execute(statement.group_by(*(literal_column(str(n)) for n in range(1, len(keys) + 1)))))


def _added_up(
    connection: Connection, keys: Keys, sums: Keys, source: FromClause, conditions: Sequence[ColumnElement[bool]]
) -> list[Any]:
    table = _temporary(keys, sums)
    table.create(connection)
    values = [literal(1), *(func.coalesce(value, 0) for value in sums.values())]
    # A condition there must be, or SQLite takes ON CONFLICT for the join's ON.
    rows = select(*keys.values(), *values).select_from(source).where(true(), *conditions)
    adding = insert(table).from_select(table.columns.keys(), rows)
    more = {name: table.c[name] + adding.excluded[name] for name in ("rows", *sums)}
    connection.execute(adding.on_conflict_do_update(index_elements=list(keys), set_=more))
    found = list(connection.execute(select(table)))
    table.drop(connection)
    return found


def _temporary(keys: Keys, sums: Keys) -> Table:
    return Table(
        "tierq_report_groups",
        MetaData(),
        *(Column(name, key.type, primary_key=True, autoincrement=False) for name, key in keys.items()),
        *(Column(name, BigInteger) for name in ("rows", *sums)),
        prefixes=["TEMPORARY"],
        sqlite_with_rowid=False,
    )
