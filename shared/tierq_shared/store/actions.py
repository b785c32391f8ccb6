"""Who did what: a row for everything that an operator changed, written with the change itself."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select

from tierq_shared.ids import new_id
from tierq_shared.store.clock import now
from tierq_shared.store.tables import actions

ACTOR_VARIABLE = "TIERQ_ACTOR"
"""Who acts, where `user@host` would say little: set by a deployment pipeline, for instance."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that somebody changed."""

    at: datetime
    actor: str
    action: str
    """The command's own word, such as `pause`."""
    target: str
    details: dict[str, Any]


def actor() -> str:
    """Who acts: `TIERQ_ACTOR`, else the user and host of this process."""
    return os.environ.get(ACTOR_VARIABLE, "").strip() or f"{_user()}@{socket.gethostname()}"


def record(connection: Connection, action: str, target: str, details: dict[str, Any] | None = None) -> None:
    """Notes what is being changed in this transaction, by whom. Nothing private belongs into ``details``."""
    values = {
        "id": new_id(),
        "at": now(),
        "actor": actor(),
        "action": action,
        "target": target,
        "details": orjson.dumps(details).decode() if details else None,
    }
    connection.execute(insert(actions).values(values))


def recent(connection: Connection, limit: int) -> Iterator[Action]:
    """The latest actions, newest first."""
    statement = select(actions).order_by(actions.c.id.desc()).limit(limit)
    for row in connection.execute(statement):
        yield Action(row.at, row.actor, row.action, row.target, orjson.loads(row.details) if row.details else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())
