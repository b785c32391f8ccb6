"""A look at something that takes a while, shared by all who ask, and not waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long whoever asks waits for an answer: a scrape has other figures to bring home."""

LEAST_KEPT_S = 2.0
MOST_KEPT_S = 60.0

_SHARE = 0.05
"""The part of the time in which the whole fleet may be looking, all its workers together."""


class Cached(Generic[T]):
    """The last look, for a while; then a new one, in a thread of its own.

    ``lookers`` says how many look at the same: the longer a look takes, and the more there are, the longer it is kept.
    """

    def __init__(self, look: Callable[[], T], lookers: Callable[[T], int] = lambda _: 1) -> None:
        self._look = look
        self._lookers = lookers
        self._lock = threading.Lock()
        self._seen = threading.Event()
        self._seen.set()
        self._due = 0.0
        self._value: T | None = None

    def get(self) -> T | None:
        """What was seen last; None where nothing could be seen, or nothing soon."""
        with self._lock:
            if self._seen.is_set() and time.monotonic() >= self._due:
                self._seen.clear()
                # Not one of an executor's: those are waited for when the process ends, however long a store hangs.
                threading.Thread(target=self._look_again, name="tierq-figures", daemon=True).start()
        return self._value if self._seen.wait(PATIENCE_S) else None

    def _look_again(self) -> None:
        began = time.monotonic()
        kept_s = LEAST_KEPT_S
        try:
            self._value = self._look()
            kept_s = (time.monotonic() - began) * self._lookers(self._value) / _SHARE
        except (SQLAlchemyError, RedisError):
            # Whoever works with them says so in the log.
            self._value = None
        finally:
            self._due = time.monotonic() + min(max(kept_s, LEAST_KEPT_S), MOST_KEPT_S)
            self._seen.set()
