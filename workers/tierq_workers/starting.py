"""What a worker does about a store that it cannot reach when it starts: it waits, as it does later on."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import DBAPIError

from tierq_shared.errors import StoreError
from tierq_shared.store import schema
from tierq_shared.store.connection import Store, is_passing

log = logging.getLogger("tierq.worker")

LOOK_EVERY_S = 1.0

_COMES_BACK = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")
"""What a PostgreSQL server that will let us in later refuses a connection with; all else is for people to mend."""


def check_store(store: Store) -> None:
    """Returns once the store can be reached and its schema is one that this release works with.

    Workers and their database often start together, and a network that breaks at this moment is no reason to end.

    Raises:
        StoreError: the store refuses us, or its schema is not ours to work with.
    """
    while True:
        try:
            schema.check(store)
        except DBAPIError as error:
            message = str(error.orig).strip()
            if not _may_come(error, message):
                raise StoreError(f"the database cannot be used: {message}") from None
            log.warning("the store cannot be reached (%s); trying again", type(error.orig).__name__)
            time.sleep(LOOK_EVERY_S)
        else:
            return


def _may_come(error: DBAPIError, message: str) -> bool:
    return is_passing(error) and ("FATAL:" not in message or any(sign in message for sign in _COMES_BACK))
