"""Which attempts were answered, counted by the id the caller sent along."""

from __future__ import annotations

import os
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
        self._counts: dict[str, list[int]] = {}
        self._dropped = 0
        self._file = None if path is None else os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, attempt: str, line: dict[str, Any]) -> None:
        """Count one answer; a delivered one and an undelivered one are told apart."""
        counts = self._counts.setdefault(attempt, [0, 0])
        counts[0] += 1
        counts[1] += bool(line["delivered"])
        if len(self._counts) > self._limit:
            del self._counts[next(iter(self._counts))]
            self._dropped += 1
        if self._file is not None:
            # One unbuffered write a line: what was served stays on record however this process ends.
            os.write(self._file, orjson.dumps({"id": attempt, **line}, option=orjson.OPT_APPEND_NEWLINE))

    def since(self, position: int) -> dict[str, Any]:
        """The ids first served at or after this position, and the position to ask for next."""
        start = max(0, position - self._dropped)
        items = list(self._counts.items())[start:]
        served = [{"id": key, "count": counts[0], "delivered": counts[1]} for key, counts in items]
        return {"served": served, "next": self._dropped + len(self._counts), "dropped": self._dropped}

    def clear(self) -> None:
        """Forget the counts; the file stays."""
        self._counts.clear()
        self._dropped = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
