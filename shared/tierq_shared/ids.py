"""Ids: UUIDs of version 7 as 32 hex digits, so that ids of one time lie together in an index and sort by age."""

from __future__ import annotations

import uuid_utils


def new_id() -> str:
    return uuid_utils.uuid7().hex


def short(id_: str) -> str:
    """An id for people: its first digits, which are the millisecond it was made in, as `0198f3a2c41d…`."""
    return f"{id_[:12]}…"
