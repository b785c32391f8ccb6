"""Migrations make the tables that the code declares, and a wrong version is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text, update

from support.schemas import at_version
from support.servers import fresh_postgres
from tierq_shared.errors import SchemaMismatch, SchemaMissing
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import compatibility, metadata, tasks
from unit.store.installation import Installation

PUBLIC = {
    "tierq_task": "id batch_id spec_id position key type state tier epoch priority urgency tags not_before deadline "
    "error_code cost_nusd created_at finished_at",
    "tierq_payload": "task_id input output",
    "tierq_attempt": "id task_id epoch tier deployment provider model lane outcome http_status request_id started_at "
    "latency_ms input_tokens cached_tokens cache_write_tokens output_tokens reasoning_tokens cost_nusd price_version",
    "tierq_decision": "id task_id tier reason signals policy_version created_at",
    "tierq_batch": "id label tags state total max_cost_nusd deadline created_at finished_at",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        store = Store(f"sqlite:///{tmp_path}/new.db")
        yield store
        store.close()
        return
    with fresh_postgres() as url:
        store = Store(url)
        yield store
        store.close()


def test_the_newest_migration_is_the_version_that_the_code_names() -> None:
    script = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert script.get_current_head() == schema.HEAD
    assert schema.HEAD in schema.COMPATIBLE


def test_migrations_make_exactly_the_declared_tables(here: Installation) -> None:
    with here.store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": schema.VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []


def test_the_public_columns_are_there(here: Installation) -> None:
    found = inspect(here.store.engine)
    for table, columns in PUBLIC.items():
        assert set(columns.split()) <= {column["name"] for column in found.get_columns(table)}


def test_the_first_releases_tables_are_brought_on_with_what_they_hold(empty_store: Store) -> None:
    """Expand only: what the release before wrote stays, and what it writes meanwhile is taken."""
    with at_version(empty_store, "0001") as connection:
        add_a_task_of_the_first_release(connection, "before")
    with pytest.raises(SchemaMismatch, match="tierq migrate"):
        schema.check(empty_store)
    assert schema.migrate(empty_store) == ("0001", schema.HEAD)
    schema.check(empty_store)
    with empty_store.engine.begin() as connection:
        add_a_task_of_the_first_release(connection, "beside")
    with empty_store.reading() as connection:
        found = connection.execute(select(tasks.c.id, tasks.c.attempts, tasks.c.uncounted_attempts))
        assert {tuple(row) for row in found} == {("before", 2, 0), ("beside", 2, 0)}


def add_a_task_of_the_first_release(connection: Connection, id_: str) -> None:
    values = {
        "id": id_, "batch_id": id_, "spec_id": "s", "position": 0, "type": "classify", "state": "failed",
        "tier": "small", "epoch": 1, "priority": 5, "urgency": "standard", "created_at": "2026-05-01 00:00:00",
        "payload_hash": "h", "attempts": 2,
    }  # fmt: skip
    names = ", ".join(values)
    bound = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO tierq_task ({names}) VALUES ({bound})"), values)


def test_an_empty_database_is_refused_and_migrating_twice_changes_nothing(empty_store: Store) -> None:
    with pytest.raises(SchemaMissing, match="tierq migrate"):
        schema.check(empty_store)
    assert schema.migrate(empty_store) == (None, schema.HEAD)
    assert schema.migrate(empty_store) == (schema.HEAD, schema.HEAD)
    schema.check(empty_store)


def test_a_newer_releases_tables_are_worked_on_while_they_only_grew(empty_store: Store) -> None:
    schema.migrate(empty_store)
    with empty_store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9998'"))
    assert not schema.has(empty_store, "9998")
    assert schema.check(empty_store) == "9998"
    assert schema.has(empty_store, "9998")
    assert schema.migrate(empty_store) == ("9998", "9998")
    with empty_store.engine.begin() as connection:
        connection.execute(update(compatibility).values(works_from="9998"))
    for refused in (schema.check, schema.migrate):
        with pytest.raises(SchemaMismatch, match=r"at version 9998.*upgrade TierQ"):
            refused(empty_store)
