"""Clocks that are wrong: a host's own, and SQLite's, which is the host's as well.

`CHAOS_CLOCK_SKEW="60"` puts this process's `time.time` and `datetime.now` a minute ahead, as on a host whose clock is
off. That must change nothing: every decision rests on the database's clock. Code in C that asks the kernel itself,
such as the ids' time stamps, is not reached.

`CHAOS_CLOCK_FILE` names a file with seconds by which SQLite's `strftime(…, 'now', …)` is off. All processes of a site
read the same file, since with SQLite they live on one host: it simulates that host's clock being set while they run.
"""

from __future__ import annotations

import datetime
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

SKEW = "CHAOS_CLOCK_SKEW"
FILE = "CHAOS_CLOCK_FILE"


def set_wrong() -> None:
    """Does what the environment says. Before anything else is imported: some take `time.time` by its name."""
    if skew := float(os.environ.get(SKEW, 0)):
        _skew_host(skew)
    if FILE in os.environ:
        follow_file(Path(os.environ[FILE]))


def _skew_host(seconds: float) -> None:
    host_time, real = time.time, datetime.datetime

    class Likeness(type):
        """Takes the datetimes that C code makes for what they are."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

    class SkewedDatetime(real, metaclass=Likeness):  # type: ignore[misc, valid-type]  # the class is a variable here
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + datetime.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return real.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)

    time.time = lambda: host_time() + seconds
    datetime.datetime = SkewedDatetime  # type: ignore[misc]


def follow_file(path: Path) -> None:
    """From now on, SQLite's clock on every new connection of this process is off by what the file says."""
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    plain = sqlite3.connect(":memory:", check_same_thread=False)

    def strftime(form: str, *arguments: Any) -> str | None:
        off = path.read_text().strip() if path.exists() else "0"
        asked = ", ".join("?" for _ in (form, *arguments, off))
        return str(plain.execute(f"SELECT strftime({asked})", (form, *arguments, f"{off or 0} seconds")).fetchone()[0])

    @event.listens_for(Pool, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.create_function("strftime", -1, strftime)
