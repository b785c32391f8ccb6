"""Coroutine tests run on an event loop of their own; `here` is an installation over SQLite."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from unit.store.installation import Installation, opened


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "tierq.db"
    store = Store(f"sqlite:///{path}")
    schema.migrate(store)
    store.close()
    return path


@pytest.fixture
def here(template: Path, tmp_path: Path) -> Iterator[Installation]:
    shutil.copy(template, tmp_path / "tierq.db")
    with opened(f"sqlite:///{tmp_path}/tierq.db") as installation:
        yield installation
