"""Which attempts were answered, counted by the id the caller sent along."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

_LIMIT = 1_000_000


class ServedLog:
    """Counts answers by attempt id, in order of first service; with a path it also appends a JSON line for each.

    An answer counts as served when it was produced, whether or not the caller was still there to read it.
    """

    def __init__(self, path: str | None = None, limit: int = _LIMIT) -> None:
        self._limit = limit
        # Plain strings and integers, which the garbage collector need not visit a million times.
        self._counts: dict[str, int] = {}
        self._undelivered: dict[str, int] = {}
        self._dropped = 0
        self._file = None if path is None else os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, attempt: str, *, delivered: bool, **line: Any) -> None:
        """Count one answer; a delivered one and an undelivered one are told apart."""
        self._counts[attempt] = self._counts.get(attempt, 0) + 1
        if not delivered:
            self._undelivered[attempt] = self._undelivered.get(attempt, 0) + 1
        if len(self._counts) > self._limit:
            oldest = next(iter(self._counts))
            del self._counts[oldest]
            self._undelivered.pop(oldest, None)
            self._dropped += 1
        if self._file is not None:
            # One unbuffered write a line: what was served stays on record however this process ends.
            written = {"id": attempt, "delivered": delivered, **line}
            os.write(self._file, orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE))

    def since(self, position: int) -> dict[str, Any]:
        """The ids first served at or after this position, and the position to ask for next."""
        start = max(0, position - self._dropped)
        items = islice(self._counts.items(), start, None)
        lost = self._undelivered
        served = [{"id": key, "count": count, "delivered": count - lost.get(key, 0)} for key, count in items]
        return {"served": served, "next": self._dropped + len(self._counts), "dropped": self._dropped}

    def clear(self) -> None:
        """Forget the counts; the file stays."""
        self._counts.clear()
        self._undelivered.clear()
        self._dropped = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
