"""Fills a store as an installation looks after a long time of work: finished batches, a long queue, dead workers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, insert, text

from tierq_shared.ids import new_id
from tierq_shared.queues import CHUNK_SIZE
from tierq_shared.store import leases, submission
from tierq_shared.store.bulk import bulk_insert
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, batches, chunks, decisions, payloads, specs, tallies, tasks
from unit.store.installation import SPEC

SPEC_ID = "5" * 32
_AT_ONCE = 10_000
"""Tasks whose rows are written together."""
_ENDED = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True)
class Part:
    """Tasks of a batch that are in the same state."""

    state: str
    count: int
    tier: str = "small"
    worker: str | None = None
    """Who runs them."""
    deadline_s: float | None = None
    """When their deadline is, from now."""
    waits_s: float | None = None
    """When they are due, from now."""


@dataclass(frozen=True)
class Plan:
    """One batch to write."""

    parts: list[Part]
    state: str = "finished"
    age_s: float = 0.0
    cancelled: bool = False
    id: str = field(default_factory=new_id)

    @property
    def total(self) -> int:
        return sum(part.count for part in self.parts)


@dataclass(frozen=True)
class Filled:
    """What a store was filled with, by the names that callers need."""

    rows: int
    running: str
    """The batch with most of the queue."""
    cancelled: str
    """A batch that was cancelled while much of it waited."""
    open: str
    """A batch that is being submitted."""
    finished: str
    """One of about a thousand batches, with a thousandth of all tasks."""
    live_worker: str
    dead_worker: str


def fill(store: Store, rows: int) -> Filled:
    """Writes about ``rows`` tasks with all that belongs to them; nothing is analysed."""
    live, dead = new_id(), new_id()
    plans = _plans(rows, live, dead)
    store.write(lambda connection: _write_frame(connection, live, dead))
    at = store.write(submission.database_now)
    for part in _slices(_rows(plans), _AT_ONCE):
        store.write_once(lambda connection, part=part: _write_tasks(connection, part, at))
    store.write_once(lambda connection: _write_batches(connection, plans, at))
    running, cancelled, opened, _, finished, *_ = plans
    return Filled(rows, running.id, cancelled.id, opened.id, finished.id, live, dead)


def analyze(store: Store) -> None:
    """What autovacuum does by itself within minutes on PostgreSQL. SQLite has no such thing, and gets none."""
    if not store.is_sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE)"))


def _plans(rows: int, live: str, dead: str) -> list[Plan]:
    queue = rows // 10
    running = Plan(
        [
            Part("succeeded", queue // 2),
            Part("failed", queue // 100),
            Part("queued", queue),
            Part("queued", queue // 20, "large"),
            Part("queued", queue // 5, deadline_s=3_600),
            Part("queued", queue // 200, deadline_s=-1),
            Part("queued", queue // 50, waits_s=600),
            Part("running", queue // 50, worker=live),
            Part("running", queue // 100, worker=dead),
        ],
        "running",
        600,
    )
    cancelled = Plan(
        [Part("succeeded", queue // 4), Part("cancelled", queue // 4), Part("queued", queue // 20)],
        "running",
        900,
        cancelled=True,
    )
    opened = Plan([Part("queued", queue // 20)], "open", 60)
    first = Plan([Part("succeeded", rows // 10), Part("failed", rows // 100)], age_s=90_000)
    left = rows - sum(plan.total for plan in (running, cancelled, opened, first))
    return [running, cancelled, opened, first, *_finished(left, rows // 1_000)]


def _finished(rows: int, size: int) -> list[Plan]:
    """Batches of a size, and one in a hundred tasks alone in its batch, as interactive ones are."""
    single, failed = rows // 100, size // 50
    parts = [Part("succeeded", size - failed), Part("failed", failed)]
    many = [Plan(parts, age_s=80_000 - number) for number in range((rows - single) // size)]
    return many + [Plan([Part("succeeded", 1, "medium")], age_s=7_000) for _ in range(single)]


@dataclass(frozen=True)
class _Row:
    plan: Plan
    part: Part
    position: int
    chunk_id: str | None
    opens_chunk: bool
    """It is the first of its chunk."""


def _rows(plans: list[Plan]) -> Iterator[_Row]:
    for plan in plans:
        position = 0
        for part in plan.parts:
            chunk = None
            for number in range(part.count):
                opens = part.state == "queued" and number % CHUNK_SIZE == 0
                chunk = new_id() if opens else chunk
                yield _Row(plan, part, position, chunk, opens)
                position += 1


def _slices(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    while part := list(islice(rows, size)):
        yield part


def _write_frame(connection: Connection, live: str, dead: str) -> None:
    spec = {"id": SPEC_ID, "type": "classify", "name": "ticket", "prompt_version": 1, "content": SPEC.json.decode()}
    connection.execute(insert(specs), {**spec, "created_at": submission.database_now(connection)})
    leases.register_worker(connection, live, "small", "1", 3_600.0)
    leases.register_worker(connection, dead, "small", "1", -1.0)


def _write_tasks(connection: Connection, rows: list[_Row], at: datetime) -> None:
    ids = [new_id() for _ in rows]
    named = list(zip(ids, rows, strict=True))
    _add(connection, tasks, (_task(id_, row, at) for id_, row in named))
    _add(connection, payloads, (_payload(id_, row) for id_, row in named))
    _add(connection, decisions, (_decision(id_, row, at) for id_, row in named))
    _add(connection, attempts, (_attempt(id_, row, at) for id_, row in named if row.part.state != "queued"))
    _add(connection, chunks, (_chunk(row, at) for row in rows if row.opens_chunk))


def _add(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    if listed := list(rows):
        bulk_insert(connection, table, listed)


def _task(id_: str, row: _Row, at: datetime) -> dict[str, Any]:
    part, created = row.part, at - timedelta(seconds=row.plan.age_s)
    ended = part.state in _ENDED
    return {
        "id": id_,
        "batch_id": row.plan.id,
        "spec_id": SPEC_ID,
        "position": row.position,
        "key": f"key {row.position}",
        "type": "classify",
        "state": part.state,
        "tier": part.tier,
        "epoch": 0 if part.state == "queued" else 1,
        "priority": 5,
        "urgency": "standard",
        "not_before": _after(at, part.waits_s),
        "deadline": _after(at, part.deadline_s),
        "error_code": "refused" if part.state == "failed" else None,
        "cost_nusd": 1_000 if ended else 0,
        "created_at": created,
        "finished_at": created + timedelta(seconds=30) if ended else None,
        "payload_hash": id_,
        "chunk_id": row.chunk_id,
        "worker_id": part.worker,
        "attempts": 0 if part.state == "queued" else 1,
    }


def _after(at: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else at + timedelta(seconds=seconds)


def _payload(id_: str, row: _Row) -> dict[str, Any]:
    output = '"billing"' if row.part.state == "succeeded" else None
    return {"task_id": id_, "input": json.dumps({"text": f"Message {id_} " + "late payment " * 12}), "output": output}


def _decision(id_: str, row: _Row, at: datetime) -> dict[str, Any]:
    decision = {"tier": row.part.tier, "reason": "rule 1", "signals": "{}", "policy_version": "config-1"}
    return {"id": new_id(), "task_id": id_, **decision, "created_at": at - timedelta(seconds=row.plan.age_s)}


def _attempt(id_: str, row: _Row, at: datetime) -> dict[str, Any]:
    part = row.part
    outcome = {"running": "started", "failed": "refused"}.get(part.state, "succeeded")
    return {
        "id": new_id(),
        "task_id": id_,
        "epoch": 1,
        "ordinal": 1,
        "tier": part.tier,
        "deployment": "mini",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "lane": "call",
        "outcome": outcome,
        "started_at": at - timedelta(seconds=row.plan.age_s),
        "latency_ms": None if part.state == "running" else 100,
        "cost_nusd": None if part.state == "running" else 1_000,
        "reserved_nusd": 1_000,
        "worker_id": part.worker or _GONE,
    }


_GONE = "f" * 32
"""A worker of long ago."""


def _chunk(row: _Row, at: datetime) -> dict[str, Any]:
    """Most are in the broker; those of waiting tasks are not, and those of an open batch not yet."""
    created = at - timedelta(seconds=row.plan.age_s)
    out = row.part.waits_s is None and row.plan.state == "running"
    return {
        "id": row.chunk_id,
        "batch_id": row.plan.id,
        "tier": row.part.tier,
        "priority": 5,
        "size": CHUNK_SIZE,
        "created_at": created,
        "not_before": _after(at, row.part.waits_s),
        "published_at": created if out else None,
        "received_at": created if out and row.position % 1_000 == 0 else None,
    }


def _write_batches(connection: Connection, plans: list[Plan], at: datetime) -> None:
    dice = random.Random(1)
    order = dice.sample(plans, len(plans))
    for start in range(0, len(order), _AT_ONCE):
        part = order[start : start + _AT_ONCE]
        _add(connection, batches, (_batch(plan, at) for plan in part))
        _add(connection, tallies, (row for plan in part for row in _tallies(plan)))


def _batch(plan: Plan, at: datetime) -> dict[str, Any]:
    created = at - timedelta(seconds=plan.age_s)
    return {
        "id": plan.id,
        "key": f"job {plan.id}",
        "label": "nightly",
        "state": plan.state,
        "streaming": False,
        "total": None if plan.state == "open" else plan.total,
        "created_at": created,
        "producer_seen_at": created,
        "finished_at": at if plan.state == "finished" else None,
        "cancelled_at": created if plan.cancelled else None,
    }


def _tallies(plan: Plan) -> Iterator[dict[str, Any]]:
    for tier in sorted({part.tier for part in plan.parts if part.state in _ENDED}):
        ended = dict.fromkeys(_ENDED, 0)
        for part in plan.parts:
            if part.tier == tier and part.state in _ENDED:
                ended[part.state] += part.count
        money = {"cost_nusd": 1_000 * sum(ended.values()), "unpriced": 0}
        yield {"batch_id": plan.id, "tier": tier, "worker_id": _GONE, **ended, **money}
