"""Shadows: answered tasks repeated on a higher tier, and the evidence that comes of comparing the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
from sqlalchemy import Connection, bindparam, exists, select, update

from tierq_shared.agreement import JUDGED, agreement
from tierq_shared.ids import new_id
from tierq_shared.options import PRIORITY_BY_URGENCY
from tierq_shared.policy import Decision, Signals, likely_tokens
from tierq_shared.queues import Chunk
from tierq_shared.specs import SpecBody, TaskType
from tierq_shared.store.clock import instant
from tierq_shared.store.submission import (
    NewBatch,
    NewTask,
    database_now,
    insert_batch,
    insert_ignoring,
    insert_slice,
    seal,
)
from tierq_shared.store.tables import attempts, batches, evidence, is_word, payloads, specs, tasks

SLICE = 200

LABEL = "shadow"
"""What the batches of shadows are called, of which there is one a day."""
KEY = "tierq-shadow-"
"""How their keys begin; the day follows."""
_KEPT = timedelta(days=1)
"""A shadow's deadline: an answer that comes later tells of models as they were."""
_JUDGED_WITHIN_S = 2 * 86_400.0
"""Shadows that ended longer ago are not looked at again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A task that has succeeded, as far as shadowing it needs to know."""

    id: str
    type: TaskType
    name: str
    tier: str
    spec: SpecBody
    input_json: str
    payload_hash: str
    tags: str | None
    constraints: dict[str, Any]


def answered(connection: Connection, ids: Sequence[str]) -> list[Answered]:
    """Those of the tasks that may be shadowed: not pinned, no shadows, and of a type that can be compared."""
    rows = connection.execute(
        select(tasks, payloads.c.input, specs.c.name, specs.c.content)
        .join(payloads, payloads.c.task_id == tasks.c.id)
        .join(specs, specs.c.id == tasks.c.spec_id)
        .where(
            tasks.c.id.in_(ids), tasks.c.type.in_(JUDGED), tasks.c.shadow_of.is_(None), payloads.c.input.is_not(None)
        )
        .order_by(tasks.c.id)
        # Held until their shadows are there, so that whoever has to forget a task finds its shadow too.
        .with_for_update(of=[tasks, payloads])
    )
    found = [_answered(row) for row in rows]
    return [task for task in found if not task.constraints.get("pinned")]


def insert_shadows(connection: Connection, pairs: Sequence[tuple[Answered, str]], policy_version: str) -> list[Chunk]:
    """Adds the shadows of tasks, each with its tier, to the day's batch; the chunks that are to be published.

    A task that has its shadow there already gets no second one.
    """
    if not pairs:
        return []
    at = database_now(connection)
    batch_id = _opened(connection, at)
    new = [_shadow(task, tier, policy_version, deadline=at + _KEPT) for task, tier in pairs]
    added = insert_slice(connection, batch_id, 0, new, fresh=False)
    seal(connection, batch_id)
    return added.chunks


def judge_shadows(connection: Connection) -> int:
    """Compares a slice of ended shadows with the tasks they repeat, and keeps the evidence; how many there were."""
    ended = list(connection.execute(_UNJUDGED).scalars())
    pairs = connection.execute(_PAIRS, {"ids": ended}).all() if ended else []
    calls = _served_by(connection, [row.id for row in pairs])
    at = database_now(connection)
    rows = [_evidence_row(row, calls[row.id], at) for row in pairs if row.id in calls]
    if rows:
        connection.execute(insert_ignoring(connection, evidence), rows)
    return len(rows)


def _opened(connection: Connection, at: datetime) -> str:
    """The day's batch of shadows, open again until it is sealed; nobody else sees it so."""
    key = f"{KEY}{at:%Y-%m-%d}"
    batch = NewBatch(id=new_id(), key=key, label=LABEL, tags=None, deadline=None, streaming=False)
    insert_batch(connection, batch, total=None)
    opened = update(batches).where(batches.c.key == key).values(state="open", finished_at=None)
    return str(connection.execute(opened.returning(batches.c.id)).scalar_one())


def _answered(row: Any) -> Answered:
    constraints = orjson.loads(row.constraints) if row.constraints else {}
    spec = SpecBody.from_json(row.content)
    return Answered(row.id, spec.type, row.name, row.tier, spec, row.input, row.payload_hash, row.tags, constraints)


def _shadow(task: Answered, tier: str, policy_version: str, *, deadline: datetime) -> NewTask:
    stakes = task.constraints.get("stakes", "normal")
    signals = Signals(task.type, task.name, likely_tokens(len(task.input_json.encode())), stakes, "relaxed")
    # Pinned: where that tier cannot answer either, there is nothing to compare with, and no more is spent on it.
    constraints = {"pinned": True} | {name: task.constraints[name] for name in ("require",) if name in task.constraints}
    return NewTask(
        key=task.id,
        spec=task.spec,
        payload_hash=task.payload_hash,
        input_json=task.input_json,
        decision=Decision(tier, f"shadow of task {task.id} on {task.tier}", signals, policy_version),
        priority=PRIORITY_BY_URGENCY["relaxed"],
        urgency="relaxed",
        tags=task.tags,
        deadline=deadline,
        constraints=orjson.dumps(constraints).decode(),
        shadow_of=task.id,
    )


_shadows = tasks.alias("shadow")
_shadow_payloads = payloads.alias("shadow_payload")


def _has_output(task_id: Any) -> Any:
    """Asked task by task: of a join, PostgreSQL's planner may make one over all payloads."""
    return select(payloads.c.output.is_not(None)).where(payloads.c.task_id == task_id).scalar_subquery()


# Apart from the pairs: joined, PostgreSQL would go through all tasks for them while the table has no statistics.
_UNJUDGED = (
    select(_shadows.c.id)
    .where(
        _shadows.c.shadow_of.is_not(None),
        _shadows.c.finished_at > instant(-_JUDGED_WITHIN_S),
        is_word(_shadows.c.state, "succeeded"),
        ~exists().where(evidence.c.task_id == _shadows.c.shadow_of),
        # Answers that were erased tell nothing any more, and are passed by for good.
        _has_output(_shadows.c.id),
        _has_output(_shadows.c.shadow_of),
    )
    .order_by(_shadows.c.finished_at)
    .limit(SLICE)
)

_PAIRS = (
    select(
        tasks.c.id,
        tasks.c.tier,
        tasks.c.cost_nusd,
        tasks.c.confidence,
        payloads.c.input,
        payloads.c.output,
        specs.c.type,
        specs.c.name,
        _shadows.c.id.label("shadow_id"),
        _shadows.c.tier.label("shadow_tier"),
        _shadow_payloads.c.output.label("shadow_output"),
    )
    .select_from(_shadows)
    .join(tasks, tasks.c.id == _shadows.c.shadow_of)
    .join(payloads, payloads.c.task_id == tasks.c.id)
    .join(_shadow_payloads, _shadow_payloads.c.task_id == _shadows.c.id)
    .join(specs, specs.c.id == tasks.c.spec_id)
    .where(_shadows.c.id.in_(bindparam("ids", expanding=True)))
    .where(payloads.c.output.is_not(None), _shadow_payloads.c.output.is_not(None))
    .order_by(_shadows.c.id)
)


def _served_by(connection: Connection, task_ids: Sequence[str]) -> dict[str, Any]:
    """The call that gave each task its answer."""
    served = (
        select(attempts.c.task_id, attempts.c.deployment, attempts.c.model, attempts.c.latency_ms)
        .where(attempts.c.task_id.in_(task_ids), attempts.c.outcome == "succeeded")
        .order_by(attempts.c.ordinal)
    )
    return {row.task_id: row for row in connection.execute(served)}


def _evidence_row(row: Any, call: Any, at: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "source": "shadow",
        "evaluation_id": None,
        "task_id": row.id,
        "sample": row.id,
        "type": row.type,
        "name": row.name,
        "input_tokens": likely_tokens(len((row.input or "").encode())),
        "tier": row.tier,
        "deployment": call.deployment,
        "model": call.model,
        "score": agreement(cast("TaskType", row.type), row.output, row.shadow_output),
        "details": orjson.dumps({"shadow": row.shadow_id, "tier": row.shadow_tier}).decode(),
        "confidence": row.confidence,
        "failed": False,
        "cost_nusd": row.cost_nusd,
        "latency_ms": call.latency_ms,
        "created_at": at,
    }
