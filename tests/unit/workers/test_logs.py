"""What a worker's log says of calls and tasks: ids, figures and words of ours, and nothing that is private."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tierq_shared.money import Usage
from tierq_shared.store.ledger import AttemptResult
from tierq_workers.json_logs import formatter
from tierq_workers.observers.logs import LogObserver

SECRET = "the customer's words"
TASK: Any = SimpleNamespace(
    id="task-1", batch_id="batch-1", tier="small", epoch=2, input_json=f'{{"text":"{SECRET}"}}', constraints={}
)
ATTEMPT: Any = SimpleNamespace(
    id="attempt-1", ordinal=3, lane="reask", deployment="mini", provider="openai", model="gpt-x", task_id="task-1"
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is written of calls, as JSON."""
    log, text = logging.getLogger("tierq.calls"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter())
    log.addHandler(handler)
    before, log.level = log.level, logging.INFO
    yield text
    log.removeHandler(handler)
    log.setLevel(before)


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_call_is_one_line_with_its_ids_and_its_figures(lines: io.StringIO) -> None:
    usage = Usage(150, 20, 0, 5, 2)
    answer = AttemptResult("attempt-1", "invalid_output", 812, 200, "req-1", usage, 25_650, error=SECRET)
    LogObserver().answered(TASK, ATTEMPT, answer)
    (line,) = read(lines)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("message") == "attempt attempt-1 of task task-1: invalid_output by mini in 812 ms"
    assert line == {
        "level": "INFO",
        "logger": "tierq.calls",
        "event": "attempt",
        "task_id": "task-1",
        "batch_id": "batch-1",
        "tier": "small",
        "epoch": 2,
        "attempt_id": "attempt-1",
        "ordinal": 3,
        "lane": "reask",
        "deployment": "mini",
        "provider": "openai",
        "model": "gpt-x",
        "outcome": "invalid_output",
        "http_status": 200,
        "latency_ms": 812,
        "input_tokens": 150,
        "output_tokens": 5,
        "cost_usd": "0.00002565",
    }
    assert SECRET not in lines.getvalue()


def test_a_claims_end_is_one_line_with_its_fate(lines: io.StringIO) -> None:
    LogObserver().ended(TASK, "queued again")
    (line,) = read(lines)
    assert (line["event"], line["task_id"], line["batch_id"], line["fate"]) == (
        "task",
        "task-1",
        "batch-1",
        "queued again",
    )
    assert SECRET not in lines.getvalue()


def test_what_is_not_known_is_null(lines: io.StringIO) -> None:
    LogObserver().answered(TASK, ATTEMPT, AttemptResult("attempt-1", "unknown", 812))
    (line,) = read(lines)
    assert (line["cost_usd"], line["input_tokens"], line["http_status"]) == (None, None, None)


def test_nothing_is_written_at_the_level_of_warnings(lines: io.StringIO) -> None:
    logging.getLogger("tierq.calls").setLevel(logging.WARNING)
    LogObserver().ended(TASK, "succeeded")
    assert not lines.getvalue()
