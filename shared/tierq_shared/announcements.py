"""Announcements: once a commit, which positions of which batch have ended. Pushed over Redis, ids and numbers only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    # Imported where it is used: a backend app's start does not wait for it.
    import redis

CONNECT_TIMEOUT_S = 2.0


def channel(batch_id: str) -> str:
    return f"tierq:batch:{batch_id}"


def connect(url: str) -> redis.Redis:
    """A connection to the state Redis. Nothing is sent before its first use."""
    import redis

    return redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S)


def errors() -> tuple[type[Exception], ...]:
    """What a Redis that cannot be reached raises."""
    import redis

    return (redis.RedisError,)


def encode(positions: Iterable[int]) -> bytes:
    return orjson.dumps(list(positions))


def decode(message: bytes) -> list[int]:
    """The positions of an announcement; none where it is not one of ours."""
    try:
        positions = orjson.loads(message)
    except orjson.JSONDecodeError:
        return []
    return [one for one in positions if isinstance(one, int)] if isinstance(positions, list) else []
