"""Finds keys that a file gives twice, exactly and in little memory: a temporary table that SQLite spills to disk."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

_CACHE_KB = 16_000


@dataclass(frozen=True, slots=True)
class Earlier:
    """Where a key was given before, and whether for the same input."""

    line: int
    is_same: bool


class SeenKeys:
    """The keys of one pass over a file."""

    def __init__(self) -> None:
        # The empty name is a private database on disk that SQLite deletes when it is closed.
        self._connection = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size=-{_CACHE_KB}",
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER, payload BLOB) WITHOUT ROWID",
            "BEGIN",
        ):
            self._connection.execute(statement)

    def add(self, key: str, line: int, payload_hash: str) -> Earlier | None:
        """Notes a key; where it was given before, says so and keeps the first."""
        payload = bytes.fromhex(payload_hash)
        added = self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, line, payload))
        if added.rowcount:
            return None
        first = self._connection.execute("SELECT line, payload FROM seen WHERE key = ?", (key,)).fetchone()
        return Earlier(first[0], first[1] == payload)

    def close(self) -> None:
        self._connection.close()
