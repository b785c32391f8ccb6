"""The tasks of every run: tickets to be sorted, each with its number as its key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tierq import Classify

_intent = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="Sort the ticket.")


def tickets(first: int, count: int) -> Iterator[Any]:
    for number in range(first, first + count):
        yield _intent(text=f"My invoice {number} is wrong", key=str(number))
