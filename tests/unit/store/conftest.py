"""Every test here runs over SQLite and over PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import fresh_postgres
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from unit.store.installation import Installation, opened


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("template") / "tierq.db"
    store = Store(f"sqlite:///{path}")
    schema.migrate(store)
    store.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres() -> Iterator[str]:
    """A migrated PostgreSQL database, which the tests of one run share."""
    with fresh_postgres() as url:
        store = Store(url)
        schema.migrate(store)
        store.close()
        yield url


@pytest.fixture
def on_sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Installation]:
    shutil.copy(sqlite_template, tmp_path / "tierq.db")
    with opened(f"sqlite:///{tmp_path}/tierq.db") as installation:
        yield installation


@pytest.fixture
def on_postgres(migrated_postgres: str) -> Iterator[Installation]:
    with opened(migrated_postgres) as installation:
        installation.clear()
        yield installation


@pytest.fixture(params=["sqlite", "postgresql"])
def here(request: pytest.FixtureRequest) -> Installation:
    """An installation with an empty store of its own."""
    name = "on_sqlite" if request.param == "sqlite" else "on_postgres"
    installation: Installation = request.getfixturevalue(name)
    return installation
