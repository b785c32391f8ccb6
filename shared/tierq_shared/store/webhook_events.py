"""What webhooks are told of, as the store has it: batches that ended, budgets reached, rules that drifted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Column, Connection, and_, exists, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from tierq_shared.caps import BATCH, scope_in_words
from tierq_shared.money import usd
from tierq_shared.store import policies, reading
from tierq_shared.store.reading import Progress
from tierq_shared.store.shadows import KEY as SHADOWS
from tierq_shared.store.tables import batches, budgets, evaluations, policy_activations

SLICE = 500

_EVALUATION = "evaluation:"
"""What the keys of an evaluation's batches begin with, before its id."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened. Nothing private is in it: no keys, inputs or outputs."""

    type: str
    at: datetime
    about: str
    """The id of what it happened to; with type and time, it makes it the one that it is."""
    data: Mapping[str, Any]
    tags: Mapping[str, str] | None = None
    """Those of its batch; None where it is of none."""

    @property
    def event(self) -> str:
        """What it is told once by. A batch that is sent again ends again, at another time."""
        return f"{self.type}:{self.about}:{self.at.isoformat()}"

    @property
    def body(self) -> str:
        return event_body(self.type, self.at, self.data)


@dataclass(frozen=True, slots=True)
class Place:
    """How far one has looked: what comes after is later, or of the same time and a later id."""

    at: datetime
    about: str = ""

    def beyond(self, time: Column[Any], id_: Column[Any]) -> ColumnElement[bool]:
        return and_(time >= self.at, or_(time > self.at, id_ > self.about))


def event_body(type_: str, at: datetime, data: Mapping[str, Any]) -> str:
    """The JSON that is sent, in the form of Standard Webhooks."""
    return orjson.dumps({"type": type_, "timestamp": at.isoformat(), "data": data}).decode()


def ended_batches(connection: Connection, after: Place, min_tasks: int) -> list[Happening]:
    """A slice of the batches that ended, but for shadows and evaluations, which are TierQ's own."""
    of_evaluation = exists().where(evaluations.c.id == func.substr(batches.c.key, len(_EVALUATION) + 1, 32))
    statement = (
        select(batches.c.id)
        .where(
            batches.c.finished_at.is_not(None),
            after.beyond(batches.c.finished_at, batches.c.id),
            batches.c.state == "finished",
            batches.c.total >= min_tasks,
            or_(batches.c.key.is_(None), ~batches.c.key.startswith(SHADOWS)),
            ~and_(batches.c.key.is_not(None), batches.c.key.startswith(_EVALUATION), of_evaluation),
        )
        .order_by(batches.c.finished_at, batches.c.id)
        .limit(SLICE)
    )
    ids = connection.execute(statement).scalars().all()
    found = [one for one in reading.progress_of(connection, ids) if one.finished_at is not None]
    return sorted(map(_ended, found), key=lambda one: (one.at, one.about))


def reached_budgets(connection: Connection, after: Place, _min_tasks: int) -> list[Happening]:
    """A slice of the budgets that hold calls back."""
    statement = (
        select(budgets)
        .where(after.beyond(budgets.c.reached_at, budgets.c.scope))
        .order_by(budgets.c.reached_at, budgets.c.scope)
        .limit(SLICE)
    )
    rows = connection.execute(statement).all()
    return [_reached(row, tags) for row, tags in zip(rows, _tags_of(connection, rows), strict=True)]


def drifts(connection: Connection, after: Place, _min_tasks: int) -> list[Happening]:
    """A slice of the activations by which a rule of the policy moved a tier up."""
    table = policy_activations
    statement = (
        select(table)
        .where(after.beyond(table.c.activated_at, table.c.id), table.c.reason.startswith(policies.DRIFTED))
        .order_by(table.c.activated_at, table.c.id)
        .limit(SLICE)
    )
    return [_drifted(row) for row in connection.execute(statement)]


Finder = Callable[[Connection, Place, int], list[Happening]]

FINDERS: dict[str, Finder] = {
    "batch.finished": ended_batches,
    "budget.reached": reached_budgets,
    "policy.drifted": drifts,
}
"""Who finds what, by the type of the event."""


def _ended(batch: Progress) -> Happening:
    at = batch.finished_at or batch.created_at
    data = {
        "batch_id": batch.batch_id,
        "label": batch.label,
        "tags": batch.tags,
        "state": batch.state,
        "total": batch.total,
        "counts": {state: getattr(batch, state) for state in ("succeeded", "failed", "cancelled", "expired")},
        "cost_usd": None if batch.unpriced else _exact(batch.cost_nusd),
        "finished_at": at.isoformat(),
    }
    return Happening("batch.finished", at, batch.batch_id, data, batch.tags)


def _reached(row: Any, tags: Mapping[str, str] | None) -> Happening:
    data = {
        "cap": scope_in_words(row.scope),
        "scope": row.scope,
        "limit_usd": _exact(row.limit_nusd),
        "spent_usd": _exact(row.spent_nusd),
        "reached_at": row.reached_at.isoformat(),
    }
    return Happening("budget.reached", row.reached_at, row.scope, data, tags)


_DRIFT = re.compile(rf"{policies.DRIFTED} of (?P<before>.+?), rule (?P<rule>\d+) \((?P<conditions>.*?)\): ", re.DOTALL)


def _drifted(row: Any) -> Happening:
    told = _DRIFT.match(row.reason)
    data = {
        "version_before": told["before"] if told else None,
        "version": row.version,
        "rule": int(told["rule"]) if told else None,
        "conditions": told["conditions"] if told else None,
        "reason": row.reason,
    }
    return Happening("policy.drifted", row.activated_at, row.id, data)


def _tags_of(connection: Connection, rows: Sequence[Any]) -> list[Mapping[str, str] | None]:
    """For each budget the tags of its batch; None for those of a span of time."""
    of_batch = [row.scope.removeprefix(f"{BATCH}:") for row in rows if row.scope.startswith(f"{BATCH}:")]
    found = connection.execute(select(batches.c.id, batches.c.tags).where(batches.c.id.in_(of_batch)))
    tags = {f"{BATCH}:{row.id}": orjson.loads(row.tags) if row.tags else {} for row in found}
    return [tags.get(row.scope) for row in rows]


def _exact(nusd: int) -> str:
    return f"{usd(nusd):f}"
