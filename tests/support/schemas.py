"""Databases as an earlier release left them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from sqlalchemy import Connection

from tierq_shared.store import schema
from tierq_shared.store.connection import Store


@contextmanager
def at_version(store: Store, version: str) -> Iterator[Connection]:
    """A transaction in which an empty database gets the tables of a version."""
    with store.engine.begin() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        yield connection
