"""Fixtures over a Redis that holds limits and breakers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from support.servers import fresh_redis
from support.simulated_provider import Clock


@pytest.fixture(scope="module")
def state_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a Redis that the tests of a module share."""
    with fresh_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.socket


@pytest.fixture
def state_socket(state_server: Path) -> Path:
    """The same, emptied."""
    with redis.Redis(unix_socket_path=str(state_server)) as state:
        state.flushall()
    return state_server


@pytest.fixture
def clock() -> Clock:
    return Clock(1_750_000_000.0)
