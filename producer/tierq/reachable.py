"""The producer's store: what cannot be reached is said in TierQ's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from tierq_shared.errors import StoreError
from tierq_shared.store.connection import Store

T = TypeVar("T")


class ProducerStore(Store):
    """A store whose failures are StoreErrors: a backend app needs to know none of SQLAlchemy's."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with _in_our_words(), super().reading() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        with _in_our_words():
            return super().write(work)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StoreError(f"the store cannot be reached or used ({_cause(error)}): check database_url") from error


def _cause(error: DBAPIError) -> str:
    """The driver's own words, on one line; statements and their parameters stay out of it."""
    return " ".join(str(error.orig).split())[:300]
