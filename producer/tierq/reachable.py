"""The producer's store: what cannot be reached is said in TierQ's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

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
    except IntegrityError:
        raise  # the submitter's: mostly another was faster
    except (OperationalError, InterfaceError) as error:
        # From None: what the driver says beside its message quotes rows, and a traceback would show it.
        raise StoreError(f"the store cannot be reached or used ({_cause(error)}): check database_url") from None
    except DBAPIError as error:
        raise StoreError(f"the store refused what it was given ({type(error.orig).__name__})") from None


def _cause(error: DBAPIError) -> str:
    """The driver's own words, on one line; statements, parameters and quoted rows stay out of it."""
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return " ".join((primary or str(error.orig)).split())[:300]
