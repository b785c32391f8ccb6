"""Notices what webhooks are told of, and puts it into their outbox. Part of a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from tierq_shared.store import schema, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.submission import database_now
from tierq_shared.store.webhook_events import FINDERS, SLICE, Happening, Place
from tierq_shared.webhooks import Endpoint

T = TypeVar("T")

_LONGEST_AGO = timedelta(days=1)
"""What happened before is told to nobody any more, should no sweep have noticed it."""

_OVERLAP = timedelta(minutes=5)
"""A transaction stamps the time of what happened, and commits later: that is looked for once more."""

_SLICES = 50

_FORGET_EVERY_S = 3_600.0


class Noticing:
    """Looks by time, and once more at the last minutes; the outbox takes each event once, whoever finds it."""

    def __init__(self, store: Store, endpoints: Sequence[Endpoint]) -> None:
        self._store = store
        self._endpoints = endpoints
        self._places: dict[tuple[str, str], Place] = {}
        """Where the next look begins, by endpoint and type of event."""
        self._forgot_at = time.monotonic()

    def look(self) -> None:
        """Looks once for everything that the endpoints are told of."""
        if not self._endpoints or not schema.has(self._store, webhooks.SINCE):
            return
        for endpoint in self._endpoints:
            for type_ in sorted(endpoint.events):
                self._look_for(endpoint, type_)
        if time.monotonic() - self._forgot_at >= _FORGET_EVERY_S:
            self._forget()

    def _forget(self) -> None:
        """Deletes what was told or given up long ago."""
        self._forgot_at = time.monotonic()
        for _ in range(_SLICES):
            if not self._store.write(webhooks.forget_old):
                return

    def _look_for(self, endpoint: Endpoint, type_: str) -> None:
        since = self._read(partial(webhooks.told_since, endpoint=endpoint.name, type_=type_))
        if since is None:
            self._store.write(partial(webhooks.tell_from_now, endpoint=endpoint.name, type_=type_))
            return
        at = self._read(database_now)
        place = self._places.get((endpoint.name, type_), Place(max(since, at - _LONGEST_AGO)))
        self._places[endpoint.name, type_] = self._note_all(endpoint, type_, place) or _once_more(since, at)

    def _note_all(self, endpoint: Endpoint, type_: str, place: Place) -> Place | None:
        """Notes what happened from a place on; where to go on, if it is more than one look takes."""
        for _ in range(_SLICES):
            with self._store.reading() as connection:
                found = FINDERS[type_](connection, place, endpoint.min_tasks)
                new = webhooks.unknown(connection, endpoint.name, [one for one in found if _is_for(endpoint, one)])
            if new:
                self._store.write(partial(webhooks.add, endpoint=endpoint.name, happenings=new))
            if len(found) < SLICE:
                return None
            place = Place(found[-1].at, found[-1].about)
        return place

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._store.reading() as connection:
            return work(connection)


def _is_for(endpoint: Endpoint, happening: Happening) -> bool:
    return happening.tags is None or endpoint.wants_batch(happening.tags)


def _once_more(since: datetime, at: datetime) -> Place:
    return Place(max(since, at - _OVERLAP))
