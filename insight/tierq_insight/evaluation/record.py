"""Evaluations and their evidence in the store: one row a run, one row a judged answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, Insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tierq_shared.ids import new_id
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import evaluations, evidence

_SLICE = 200
_JUDGED_ANEW = ("score", "details", "confidence", "failed", "cost_nusd", "latency_ms", "model")
"""What changes where a failed task was sent again and judged anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes an evaluation another one when it changes: samples, deployments with their models, and the scorer."""

    samples_hash: str
    label: str
    deployments: dict[str, dict[str, Any]]
    """What each deployment is, by name."""
    scorer: str | None = None
    """`judge NAME` or `scorer MODULE:FUNCTION`, where generated texts are scored."""

    def evaluation_id(self, generation: int) -> str:
        """The same for the same plan; ``generation`` tells runs apart that were asked to begin anew."""
        content = [self.samples_hash, self.deployments, self.scorer, generation]
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a plan."""

    id: str
    is_finished: bool

    @property
    def batch_key(self) -> str:
        return f"evaluation:{self.id}"

    @property
    def judge_key(self) -> str:
        return f"evaluation:{self.id}:judge"


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer of one deployment to one sample, with its score."""

    task_id: str
    sample: str
    type: str
    name: str
    input_tokens: int
    tier: str
    deployment: str
    model: str
    score: float
    failed: bool
    details: dict[str, Any] = field(repr=False)
    confidence: float | None
    cost_nusd: int | None
    latency_ms: int | None


def find_evaluation(connection: Connection, plan: Plan) -> Evaluation | None:
    """The latest run of this plan; None where there was none."""
    found, generation = None, 0
    while True:
        statement = select(evaluations.c.id, evaluations.c.finished_at)
        row = connection.execute(statement.where(evaluations.c.id == plan.evaluation_id(generation))).one_or_none()
        if row is None:
            return found
        found, generation = Evaluation(row.id, row.finished_at is not None), generation + 1


def open_evaluation(store: Store, plan: Plan, *, fresh: bool) -> Evaluation:
    """The latest run of this plan, or with ``fresh`` or where there is none a new one."""
    return store.write(lambda connection: _opened(connection, plan, fresh=fresh))


def _opened(connection: Connection, plan: Plan, *, fresh: bool) -> Evaluation:
    latest = find_evaluation(connection, plan)
    if latest is not None and not fresh:
        return latest
    generation = 0
    while latest is not None and plan.evaluation_id(generation) != latest.id:
        generation += 1
    opened = Evaluation(plan.evaluation_id(generation if latest is None else generation + 1), is_finished=False)
    document = {"deployments": plan.deployments, "batches": [opened.batch_key, opened.judge_key], "scorer": plan.scorer}
    values = {
        "id": opened.id,
        "label": plan.label,
        "samples_hash": plan.samples_hash,
        "document": orjson.dumps(document).decode(),
        "created_at": now(),
    }
    # Two commands that begin the same evaluation at once begin one.
    connection.execute(_insert(connection, evaluations).values(values).on_conflict_do_nothing())
    return opened


def keep(store: Store, evaluation: Evaluation, judged: Iterable[Judged]) -> None:
    """Stores evidence, a row a task: what is judged again takes the place of what was there."""
    rows = iter(judged)
    while part := list(islice(rows, _SLICE)):
        store.write(partial(_upsert, rows=[_row(evaluation, one) for one in part]))


def finish(store: Store, evaluation: Evaluation) -> None:
    """Marks an evaluation as one with nothing left to be done."""
    statement = update(evaluations).where(evaluations.c.id == evaluation.id, evaluations.c.finished_at.is_(None))
    store.write(lambda connection: connection.execute(statement.values(finished_at=now())))


def read(connection: Connection, evaluation_id: str) -> list[Judged]:
    """An evaluation's evidence, in the order in which it was stored."""
    statement = select(evidence).where(evidence.c.evaluation_id == evaluation_id).order_by(evidence.c.id)
    return [_judged(row) for row in connection.execute(statement)]


def _upsert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    statement = _insert(connection, evidence).values(created_at=now())
    anew = {name: statement.excluded[name] for name in _JUDGED_ANEW}
    connection.execute(statement.on_conflict_do_update(index_elements=["task_id"], set_=anew), rows)


def _insert(connection: Connection, table: Any) -> Any:
    """An INSERT that may speak of conflicts, which each store has in its own dialect."""
    made: Insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    return made


def _row(evaluation: Evaluation, judged: Judged) -> dict[str, Any]:
    named = {name: getattr(judged, name) for name in Judged.__dataclass_fields__}
    return {
        **named,
        "id": new_id(),
        "source": "evaluation",
        "evaluation_id": evaluation.id,
        "details": orjson.dumps(judged.details).decode(),
    }


def _judged(row: Any) -> Judged:
    named = {name: getattr(row, name) for name in Judged.__dataclass_fields__}
    return Judged(**{**named, "details": orjson.loads(row.details) if row.details else {}})
