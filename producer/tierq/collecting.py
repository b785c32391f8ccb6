"""Reads outcomes as they come, once each, without a cursor: rows that commit late are not lost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from tierq.outputs import Decoder
from tierq_shared.outcomes import Outcome
from tierq_shared.store import reading
from tierq_shared.store.connection import Store

SLICE = 500

_SCAN_SHARE = 20
"""A scan of all ended positions may take one part in twenty of the time: the larger the batch, the rarer it is."""


class Bitmap:
    """Which positions have been seen."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, position: int) -> None:
        if position not in self:
            byte = position >> 3
            if byte >= len(self._bits):
                self._bits.extend(bytes(byte + 1 - len(self._bits) + 1024))
            self._bits[byte] |= 1 << (position & 7)
            self.count += 1

    def __contains__(self, position: int) -> bool:
        byte = position >> 3
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << (position & 7))


class Collector:
    """The outcomes of one batch that one reader has not seen yet."""

    def __init__(self, store: Store, batch_id: str, decoder: Decoder) -> None:
        self._store = store
        self._batch_id = batch_id
        self._decoder = decoder
        self._seen = Bitmap()
        self._waiting: list[int] = []
        self._total: int | None = None
        self._aborted = False
        self._tags: dict[str, str] | None = None
        self._next_scan = 0.0

    @property
    def is_done(self) -> bool:
        return self._aborted or (self._total is not None and self._seen.count >= self._total)

    def ready(self, announced: Iterable[int], *, scan: bool) -> list[Outcome[Any]]:
        """Up to a slice of outcomes that were not given before; ``scan`` also looks for what nobody announced."""
        with self._store.reading() as connection:
            if self._tags is None:
                self._tags = reading.batch_tags(connection, self._batch_id)
            self._waiting += announced
            if not self._waiting and (scan or time.monotonic() >= self._next_scan):
                self._scan(connection)
            part = [position for position in self._waiting[:SLICE] if position not in self._seen]
            del self._waiting[:SLICE]
            if not part:
                return []
            found = reading.outcomes(connection, self._batch_id, part, self._tags, self._decoder)
        for outcome in found:
            self._seen.add(outcome.position)
        return found

    @property
    def has_more(self) -> bool:
        """Whether `ready` would give more without waiting."""
        return bool(self._waiting)

    def _scan(self, connection: Connection) -> None:
        began = time.monotonic()
        if self._total is None:
            now = reading.progress(connection, self._batch_id)
            self._total, self._aborted = now.total, now.state == "aborted"
        self._waiting = sorted(
            position for position in reading.ended_positions(connection, self._batch_id) if position not in self._seen
        )
        ended = time.monotonic()
        self._next_scan = ended + (ended - began) * _SCAN_SHARE
