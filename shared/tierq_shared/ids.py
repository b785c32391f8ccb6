"""Ids: UUIDs of version 7 as 32 hex digits, so that ids of one time lie together in an index and sort by age."""

from __future__ import annotations

from datetime import datetime

import uuid_utils

PREFIX_DIGITS = 12
"""The digits of an id that are the millisecond it was made in: enough to name a batch by."""


def new_id() -> str:
    return uuid_utils.uuid7().hex


def first_of(at: datetime) -> str:
    """What every id sorts after that was made at a time or later; those made before sort before it."""
    return f"{max(0, int(at.timestamp() * 1000)):0{PREFIX_DIGITS}x}" + "0" * 20


def earlier(id_: str, seconds: float) -> str:
    """What every id sorts after that was made later than a time before this one's."""
    made_ms = int(id_[:PREFIX_DIGITS] or "0", 16)
    return f"{max(0, made_ms - int(seconds * 1000)):0{PREFIX_DIGITS}x}" if id_ else ""


def prefix(id_: str) -> str:
    """As much of an id as names a batch on the command line."""
    return id_[:PREFIX_DIGITS]


def short(id_: str) -> str:
    """An id for people, as `0198f3a2c41d…`."""
    return f"{prefix(id_)}…"
