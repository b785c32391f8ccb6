"""No statement that runs again and again goes through all of a table that grows: what `make plans` measures, small."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, select, text

from chaos.explaining import explained
from chaos.filling import fill
from chaos.plans import STORES, filled_store, look
from tierq_shared.store import backlog, shadows, sweeps
from tierq_shared.store.tables import tasks

ROWS = 50_000
"""Enough for PostgreSQL's planner to prefer an index; SQLite asks no size."""


@pytest.mark.parametrize("name", STORES)
def test_no_statement_scans_a_growing_table(name: str) -> None:
    found = look(name, ROWS)
    assert len(found.driven) > len({one.function for one in found.driven}) > 30
    assert {one.function: list(map(str, one.statement.scans)) for one in found.scans} == {}


@pytest.mark.parametrize("name", STORES)
def test_a_scan_is_seen(name: str) -> None:
    with filled_store(name) as store, explained(store.engine) as found, store.reading() as connection:
        connection.execute(select(tasks.c.id).where(tasks.c.error_code == "refused"))
        connection.execute(select(tasks.c.id).where(tasks.c.id == "a"))
    scanning, searching = found.statements.values()
    assert [step.table for step in scanning.scans] == ["tierq_task"]
    assert [step.index for step in searching.steps] == ["primary key"]
    assert searching.scans == []


def test_what_was_prepared_on_empty_tables_scans_none_when_they_have_grown() -> None:
    """PostgreSQL may keep a prepared statement's plan, which knows no parameter, until the tables are analysed."""
    with filled_store("postgresql") as store, store.engine.connect() as connection:
        for work in ASKED_ALWAYS:
            for _ in range(PREPARED_AFTER):
                work(connection)
                connection.commit()
        fill(store, 10_000)
        before = rows_scanned(connection)
        for work in ASKED_ALWAYS:
            work(connection)
            connection.commit()
        scanned = {table: rows - before[table] for table, rows in rows_scanned(connection).items()}
        kept = connection.execute(text("SELECT count(*) FROM pg_prepared_statements WHERE generic_plans > 0"))
        assert kept.scalar_one() > 0
    assert {table: rows for table, rows in scanned.items() if rows > 1_000} == {}


NOBODY = "f" * 32
ASKED_ALWAYS: list[Callable[[Connection], object]] = [
    sweeps.chunks_to_ring,
    sweeps.running_batches,
    sweeps.cancelled_batches,
    lambda connection: sweeps.markers_due(connection, 60.0),
    lambda connection: sweeps.expire_tasks(connection, NOBODY),
    lambda connection: sweeps.cancel_tasks(connection, NOBODY, NOBODY, -1),
    lambda connection: sweeps.settle_worker(connection, NOBODY, NOBODY, 10),
    shadows.judge_shadows,
    lambda connection: backlog.backlog(connection),
    lambda connection: backlog.ready_tasks(connection, "small"),
]
PREPARED_AFTER = 15
"""psycopg prepares a statement after five runs, PostgreSQL may keep its plan after five more."""


def rows_scanned(connection: Connection) -> dict[str, int]:
    """Rows that sequential scans have read, by table."""
    connection.execute(text("SELECT pg_stat_force_next_flush()"))
    connection.commit()
    found = connection.execute(text("SELECT relname, seq_tup_read FROM pg_stat_user_tables")).all()
    connection.commit()
    return {row.relname: row.seq_tup_read for row in found}
