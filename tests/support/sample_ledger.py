"""A ledger small enough to add up by hand: each way that a task can go, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert

from tierq_insight.report import Baseline
from tierq_shared.money import Rates
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, batches, evidence, specs, tasks

FIRST = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = FIRST + timedelta(days=5)
BLUE, PLAIN = f"{1:032x}", f"{2:032x}"
"""Its batches: one with the tag team=blue, and one without tags."""

# 2 nano-USD for a token of input and 10 for one of output.
BASELINE = Baseline("sol", "big-model", Rates(2_000_000, 10_000_000, 2_000_000, 2_000_000, "test"))

_MODELS = {"luna": "small-a", "haiku": "small-b", "flash": "middle", "sol": "big-model"}
_TIERS = {"luna": "small", "haiku": "small", "flash": "medium", "sol": "large"}
_KINDS = {"classify": "ticket", "extract": "invoice", "answer": "handbook", "generate": "reply"}

Call = tuple[str, str, int | None, int | None, int | None, int | None]
"""Deployment, outcome, cost, tokens of input and output, milliseconds."""

# fmt: off
_TASKS: Mapping[int, tuple[str, str, str, list[Call]]] = {
    1: (BLUE, "classify", "succeeded", [("luna", "succeeded", 100, 10, 5, 100)]),
    2: (BLUE, "classify", "succeeded", [("luna", "overloaded", 0, None, None, 30),
                                        ("haiku", "succeeded", 300, 20, 5, 200)]),
    3: (BLUE, "extract", "succeeded", [("luna", "invalid_output", 50, 10, 10, 120),
                                       ("luna", "invalid_output", 60, 12, 10, 130),
                                       ("flash", "succeeded", 500, 30, 20, 400)]),
    4: (BLUE, "extract", "succeeded", [("luna", "unknown", 900, None, None, 9_000),
                                       ("luna", "succeeded", 100, 10, 4, 150)]),
    5: (BLUE, "classify", "failed", [("luna", "rate_limited", 0, None, None, 20),
                                     ("luna", "refused", 10, 5, 0, 80)]),
    6: (PLAIN, "classify", "succeeded", []),
    7: (PLAIN, "classify", "succeeded", [("flash", "succeeded", 450, 10, 6, 420)]),
    8: (PLAIN, "generate", "succeeded", [("sol", "succeeded", None, 40, 50, 12_345)]),
    9: (PLAIN, "classify", "running", [("luna", "started", None, None, None, None)]),
    10: (PLAIN, "answer", "succeeded", [("luna", "succeeded", 70, 5, 5, 90)]),
    11: (PLAIN, "extract", "succeeded", [("luna", "succeeded", 40, 8, 8, 110),
                                         ("flash", "succeeded", 480, 9, 9, 410)]),
}
# fmt: on
_REASKED = (3, 2)
_OWN = {
    4: {"tags": json.dumps({"team": "red"})},
    6: {"cached_from": f"{1:032x}"},
    7: {"shadow_of": f"{1:032x}"},
}
"""What only some tasks have. Task 10 is an evaluation's, task 11 came five days later."""


def write(store: Store, *, names: Mapping[str, str] = _KINDS, tags: Mapping[str, str] | None = None) -> None:
    """Writes it. ``names``: what each type's spec is called; ``tags``: those of the first batch."""
    store.write(lambda connection: _write(connection, names, tags or {"team": "blue"}))


def _write(connection: Connection, names: Mapping[str, str], tags: Mapping[str, str]) -> None:
    connection.execute(insert(specs), [_spec(type_, name) for type_, name in names.items()])
    connection.execute(insert(batches), [_batch(BLUE, json.dumps(tags)), _batch(PLAIN, None)])
    connection.execute(insert(tasks), [_task(number) for number in _TASKS])
    connection.execute(insert(attempts), [call for number in _TASKS for call in _attempts(number)])
    connection.execute(insert(evidence), _judged())


def _spec(type_: str, name: str) -> dict[str, Any]:
    return {"id": type_, "type": type_, "name": name, "prompt_version": 1, "content": "{}", "created_at": FIRST}


def _batch(id_: str, tags: str | None) -> dict[str, Any]:
    return {"id": id_, "state": "running", "streaming": False, "tags": tags, "created_at": FIRST}


def _time(number: int) -> datetime:
    return LATER if number == 11 else FIRST


def _task(number: int) -> dict[str, Any]:
    batch, type_, state, calls = _TASKS[number]
    costs = [cost for _, outcome, cost, *_ in calls if outcome != "started"]
    fields = {
        "id": f"{number:032x}",
        "batch_id": batch,
        "spec_id": type_,
        "position": number,
        "type": type_,
        "state": state,
        "tier": _TIERS[calls[-1][0]] if calls else "small",
        "epoch": 1,
        "priority": 5,
        "urgency": "standard",
        "cost_nusd": None if None in costs else sum(cost or 0 for cost in costs),
        "created_at": _time(number),
        "payload_hash": str(number),
        "attempts": len(calls),
    }
    return {**fields, "tags": None, "cached_from": None, "shadow_of": None, **_OWN.get(number, {})}


def _attempts(number: int) -> list[dict[str, Any]]:
    return [_attempt(number, ordinal, call) for ordinal, call in enumerate(_TASKS[number][3], 1)]


def _attempt(number: int, ordinal: int, call: Call) -> dict[str, Any]:
    deployment, outcome, cost, input_, output, latency = call
    return {
        "id": f"{number * 100 + ordinal:032x}",
        "task_id": f"{number:032x}",
        "epoch": ordinal,
        "ordinal": ordinal,
        "tier": _TIERS[deployment],
        "deployment": deployment,
        "provider": "test",
        "model": _MODELS[deployment],
        "lane": "reask" if (number, ordinal) == _REASKED else "call",
        "outcome": outcome,
        "started_at": _time(number) + timedelta(seconds=ordinal),
        "latency_ms": latency,
        "input_tokens": input_,
        "output_tokens": output,
        "cost_nusd": cost,
        "worker_id": "w",
    }


def _judged() -> dict[str, Any]:
    return {
        "id": "e",
        "source": "evaluation",
        "evaluation_id": "v",
        "task_id": f"{10:032x}",
        "sample": "s",
        "type": "answer",
        "name": "handbook",
        "input_tokens": 5,
        "tier": "small",
        "deployment": "luna",
        "model": "small-a",
        "score": 0.75,
        "failed": False,
        "created_at": FIRST,
    }
