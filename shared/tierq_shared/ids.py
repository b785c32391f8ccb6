"""Ids: UUIDs of version 7 as 32 hex digits, so that ids of one time lie together in an index and sort by age."""

from __future__ import annotations

import uuid_utils

PREFIX_DIGITS = 12
"""The digits of an id that are the millisecond it was made in: enough to name a batch by."""


def new_id() -> str:
    return uuid_utils.uuid7().hex


def prefix(id_: str) -> str:
    """As much of an id as names a batch on the command line."""
    return id_[:PREFIX_DIGITS]


def short(id_: str) -> str:
    """An id for people, as `0198f3a2c41d…`."""
    return f"{prefix(id_)}…"
