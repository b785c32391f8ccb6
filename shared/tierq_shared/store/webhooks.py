"""The outbox of the webhooks: a row for each event and endpoint, until it was told or given up, and a while longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, exists, select, update

from tierq_shared.ids import new_id
from tierq_shared.store.clock import instant, now
from tierq_shared.store.submission import database_now, insert_ignoring
from tierq_shared.store.tables import is_word, webhooks
from tierq_shared.store.webhook_events import Happening

SINCE = "0006"
"""The version of the tables from which on there is an outbox."""

_SLICE = 500

_KEPT_S = 30 * 86_400.0
"""How long rows are kept that were told or given up."""

_ENDED = ("delivered", "failed")

_MARKER = "since"
"""The state of the row that says since when an endpoint is told of a type of event."""


@dataclass(frozen=True, slots=True)
class Message:
    """A row that was taken to be sent now."""

    id: str
    body: str
    tries: int
    """This one among them."""
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one try."""

    state: Literal["delivered", "failed", "pending"]
    http_status: int | None
    error: str | None
    again_in_s: float = 0.0
    """Seconds until the next try, where it is pending."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row for people."""

    id: str
    event: str
    endpoint: str
    state: str
    tries: int
    http_status: int | None
    error: str | None
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None


# What goes in.


def told_since(connection: Connection, endpoint: str, type_: str) -> datetime | None:
    """Since when an endpoint is told of a type of event; None where nobody has noted it yet."""
    return connection.execute(
        select(webhooks.c.created_at).where(webhooks.c.event == _marker_of(type_), webhooks.c.endpoint == endpoint)
    ).scalar_one_or_none()


def tell_from_now(connection: Connection, endpoint: str, type_: str) -> None:
    """Notes that an endpoint is told of a type of event from now on, unless it is already."""
    marker = _row(_marker_of(type_), endpoint, "", _MARKER, database_now(connection))
    connection.execute(insert_ignoring(connection, webhooks).values({**marker, "next_at": None}))


def unknown(connection: Connection, endpoint: str, happenings: Sequence[Happening]) -> list[Happening]:
    """Those that are not in the outbox for an endpoint."""
    events = [one.event for one in happenings]
    there = select(webhooks.c.event).where(webhooks.c.endpoint == endpoint, webhooks.c.event.in_(events))
    known = set(connection.execute(there).scalars()) if events else set()
    return [one for one in happenings if one.event not in known]


def add(connection: Connection, endpoint: str, happenings: Sequence[Happening]) -> None:
    """Puts a slice of events in, each once however often it is found and by whomever."""
    at = database_now(connection)
    # In the order of the unique index: two sweepers then wait for each other instead of deadlocking.
    ordered = sorted(happenings, key=lambda one: one.event)
    rows = [_row(one.event, endpoint, one.body, "pending", at) for one in ordered]
    connection.execute(insert_ignoring(connection, webhooks), rows)


def forget_old(connection: Connection) -> int:
    """Deletes a slice of the rows that ended long ago; how many there were."""
    # Ids begin with the millisecond they were made in, and have an index.
    made_before = f"{int((database_now(connection).timestamp() - _KEPT_S) * 1000):012x}"
    old = select(webhooks.c.id).where(webhooks.c.id < made_before, webhooks.c.state.in_(_ENDED))
    found = delete(webhooks).where(webhooks.c.id.in_(old.order_by(webhooks.c.id).limit(_SLICE)))
    return int(connection.execute(found).rowcount)


# What goes out.


def any_due(connection: Connection, endpoint: str) -> bool:
    """Whether something is to be sent to an endpoint now."""
    return bool(connection.execute(select(exists().where(*_due(endpoint)))).scalar_one())


def take_due(connection: Connection, endpoint: str, hold_s: float, limit: int) -> list[Message]:
    """Takes what is due, the oldest first. Nobody else takes it within ``hold_s`` seconds, unless this process dies."""
    due = select(webhooks.c.id).where(*_due(endpoint)).order_by(webhooks.c.id).limit(limit)
    ids = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
    taken = update(webhooks).where(webhooks.c.id.in_(ids)).values(next_at=now(hold_s), tries=webhooks.c.tries + 1)
    found = connection.execute(taken.returning(webhooks.c.id, webhooks.c.body, webhooks.c.tries)).all() if ids else []
    at = database_now(connection)
    return [Message(row.id, row.body, row.tries, at) for row in sorted(found, key=lambda row: row.id)]


def settle(connection: Connection, message: Message, verdict: Verdict) -> None:
    """Records what became of a try, unless somebody has taken the message since."""
    is_over = verdict.state in _ENDED
    connection.execute(
        update(webhooks)
        .where(webhooks.c.id == message.id, webhooks.c.tries == message.tries, is_word(webhooks.c.state, "pending"))
        .values(
            state=verdict.state,
            http_status=verdict.http_status,
            error=verdict.error,
            next_at=None if is_over else now(verdict.again_in_s),
            ended_at=now() if is_over else None,
        )
    )


# For people.

_SHOWN = [webhooks.c[name] for name in Delivery.__dataclass_fields__]


def recent(connection: Connection, limit: int) -> list[Delivery]:
    """The latest rows, newest first."""
    rows = connection.execute(
        select(*_SHOWN).where(webhooks.c.state != _MARKER).order_by(webhooks.c.id.desc()).limit(limit)
    )
    return [Delivery(*row) for row in rows]


def beginning_with(connection: Connection, prefix: str, limit: int) -> list[Delivery]:
    """The rows whose ids begin like this."""
    # A range, since SQLite uses no index for LIKE. Ids are hex digits: "g" comes after whatever may follow.
    within = (webhooks.c.id >= prefix, webhooks.c.id < f"{prefix}g", webhooks.c.state != _MARKER)
    rows = connection.execute(select(*_SHOWN).where(*within).order_by(webhooks.c.id).limit(limit))
    return [Delivery(*row) for row in rows]


def send_again(connection: Connection, id_: str) -> bool:
    """Makes a row that was not delivered due now, one that was given up with all its tries; whether it was such."""
    row = webhooks.c.id == id_
    connection.execute(update(webhooks).where(row, webhooks.c.state == "failed").values(tries=0))
    undelivered = update(webhooks).where(row, webhooks.c.state.in_(("pending", "failed")))
    return connection.execute(undelivered.values(state="pending", next_at=now(), ended_at=None)).rowcount == 1


def send_failed_again(connection: Connection) -> int:
    """The same for a slice of those that were given up; how many there were."""
    failed = select(webhooks.c.id).where(webhooks.c.state == "failed").order_by(webhooks.c.id).limit(_SLICE)
    ids = list(connection.execute(failed.with_for_update()).scalars())
    if ids:
        anew = update(webhooks).where(webhooks.c.id.in_(ids))
        connection.execute(anew.values(state="pending", tries=0, next_at=now(), ended_at=None))
    return len(ids)


def _due(endpoint: str) -> tuple[Any, ...]:
    return is_word(webhooks.c.state, "pending"), webhooks.c.next_at <= instant(), webhooks.c.endpoint == endpoint


def _row(event: str, endpoint: str, body: str, state: str, at: datetime) -> dict[str, Any]:
    row = {"id": new_id(), "event": event, "endpoint": endpoint, "body": body, "state": state}
    return {**row, "tries": 0, "created_at": at, "next_at": at}


def _marker_of(type_: str) -> str:
    return f"{_MARKER}:{type_}"
