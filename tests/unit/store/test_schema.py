"""Migrations make the tables that the code declares, and a wrong version is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from support.servers import fresh_postgres
from tierq_shared.errors import SchemaMismatch, SchemaMissing
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import metadata
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


def test_an_empty_database_is_refused_and_migrating_twice_changes_nothing(empty_store: Store) -> None:
    with pytest.raises(SchemaMissing, match="tierq migrate"):
        schema.check(empty_store)
    assert schema.migrate(empty_store) == (None, schema.HEAD)
    assert schema.migrate(empty_store) == (schema.HEAD, schema.HEAD)
    schema.check(empty_store)
    with empty_store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999"):
        schema.check(empty_store)
