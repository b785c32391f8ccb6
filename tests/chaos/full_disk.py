"""A disk that is full: SQLite may not grow while the file that `CHAOS_FULL_DISK` names is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "CHAOS_FULL_DISK"
_ANY_SIZE = 2**30
"""Pages."""


def watch() -> None:
    """Every transaction looks first; one that needs a new page fails with SQLite's own "database or disk is full"."""
    if VARIABLE not in os.environ:
        return
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    sign = Path(os.environ[VARIABLE])

    @event.listens_for(Pool, "checkout")
    def on_checkout(connection: Any, _record: Any, _proxy: Any) -> None:
        # SQLite never makes it less than what is there: a page count of one means "not a page more".
        connection.execute(f"PRAGMA max_page_count={1 if sign.exists() else _ANY_SIZE}")
