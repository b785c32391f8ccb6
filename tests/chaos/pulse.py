"""Counts ended tasks from outside while faults happen: how long nothing ended, and when the last one did."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from tierq_shared.outcomes import TERMINAL
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import tasks

EVERY_S = 0.1

_ENDED = select(func.count()).select_from(tasks).where(tasks.c.state.in_(TERMINAL))


class Pulse:
    """A thread that looks ten times a second. While the store is away it sees nothing end, and so it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="chaos-pulse", daemon=True)
        self.ended = 0
        self.changed_at = time.monotonic()
        self.standstill_s = 0.0
        """The longest time between two looks that saw something end."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            with suppress(DBAPIError):
                self._look()

    def _look(self) -> None:
        with self._store.reading() as connection:
            ended = connection.execute(_ENDED).scalar_one()
        if ended == self.ended:
            return
        at = time.monotonic()
        if self.ended:
            self.standstill_s = max(self.standstill_s, at - self.changed_at)
        self.ended, self.changed_at = ended, at
