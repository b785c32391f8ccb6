"""A worker that starts before its store: it waits for one that comes, and ends with a word at one that refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import OperationalError as PostgresError
from sqlalchemy.exc import OperationalError

from tierq_shared.errors import StoreError
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_workers import starting

RESET = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: Connection reset by peer'
REFUSED = 'connection failed: FATAL: password authentication failed for user "app"'


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What each look at the store meets, until nothing is left: then it is there."""
    met: list[Exception] = []

    def check(_store: Store) -> None:
        if met:
            raise met.pop(0)

    monkeypatch.setattr(schema, "check", check)
    monkeypatch.setattr(starting, "LOOK_EVERY_S", 0.0)
    return met


def trouble(message: str) -> OperationalError:
    return OperationalError("SELECT 1", {}, PostgresError(message))


@pytest.mark.parametrize("message", [RESET, "connection failed: FATAL: the database system is starting up"])
def test_a_store_that_comes_late_is_waited_for(looks: list[Exception], message: str, caplog: Any) -> None:
    looks += [trouble(message)] * 3
    starting.check_store(Store("sqlite://"))
    assert not looks
    assert caplog.text.count("trying again") == 3


def test_a_store_that_refuses_ends_the_worker_with_what_it_said(looks: list[Exception]) -> None:
    looks.append(trouble(REFUSED))
    with pytest.raises(StoreError, match="password authentication failed"):
        starting.check_store(Store("sqlite://"))


def test_a_file_that_cannot_be_opened_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        starting.check_store(Store(f"sqlite:///{tmp_path}/nowhere/tierq.db"))
