"""Waits on conditions, never on the clock alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 20.0, every: float = 0.05) -> T:
    """The first truthy value of ``predicate``; an AssertionError with its last value when the time is over."""
    until = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < until, f"not within {timeout} s; the last value was {value!r}"
        time.sleep(every)
