"""What people are told: how far a batch is, and what it came to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tierq_console.progress_view import PlainView, QuietView, make_view, told
from tierq_console.summary import Failures, Summary
from tierq_insight.spending import ModelSpending
from tierq_shared.money import Usage
from tierq_shared.store.reading import Progress, TierProgress

SMALL = TierProgress(succeeded=90, failed=3, cancelled=1, cost_nusd=12_345_678)
MODEL = ModelSpending("gpt-4o-mini", 95, 90, Usage(1_000, 200, 0, 300, 0), 12_345_678, 2)


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "batch_id": "b1", "state": "running", "total": 100, "tiers": {"small": SMALL}, "unpriced": 2,
        "created_at": datetime(2026, 5, 1, tzinfo=UTC), "finished_at": None,
    }  # fmt: skip
    return Progress(**{**values, **changes})


def summary(**changes: Any) -> Summary:
    failures = Failures()
    failures.counts["invalid_output"] = 3
    failures.examples["invalid_output"] = "T7: no label"
    values: dict[str, Any] = {
        "progress": progress(), "models": [MODEL], "failures": failures, "set_aside": 4,
        "bad_path": Path("a.bad.jsonl"), "seconds": 2.5, "output": Path("out.jsonl"),
    }  # fmt: skip
    return Summary(**{**values, **changes})


def test_progress_in_words() -> None:
    assert told(progress(), 100, 12.0) == "3 failed · 12/s · $0.0123 and 2 unpriced · 0 s left · small 94"
    assert told(progress(tiers={}, unpriced=0), 7_200, 1.0) == "1.0/s · $0.000000 · 2:00:00 left"


def test_where_no_terminal_is_lines_are_plain_and_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with make_view(quiet=False) as view:
        assert isinstance(view, PlainView)
        view.note("hello")
        view.show(progress(), 100)
    with make_view(quiet=True) as quiet:
        assert isinstance(quiet, QuietView)
        quiet.note("nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_a_summary_for_people() -> None:
    assert summary().lines() == [
        "90 of 100 succeeded in 2.5 s, $0.0123 and 2 unpriced · batch b1",
        "  small: 90 succeeded, 3 failed, 1 cancelled, $0.0123",
        "  gpt-4o-mini: 95 calls, 1,000 tokens in, 300 out, $0.0123 and 2 unpriced",
        "  3 × invalid_output, such as T7: no label",
        "  `tierq failures b1` shows why, `tierq retry b1` sends them again",
        "  4 bad rows were set aside in a.bad.jsonl",
        "written to out.jsonl",
    ]


def test_a_summary_for_machines_has_exact_costs() -> None:
    found = summary().json()
    assert (found["cost_usd"], found["by_tier"]["small"]["cost_usd"], found["unpriced"]) == (
        "0.012345678",
        "0.012345678",
        2,
    )
    assert found["tokens"] == {"input": 1_000, "cached": 200, "cache_write": 0, "output": 300, "reasoning": 0}
    assert (found["failures"], found["set_aside"], found["output"]) == ({"invalid_output": 3}, 4, "out.jsonl")


def test_all_is_well_only_when_every_task_succeeded() -> None:
    assert not summary().all_succeeded
    assert summary(progress=progress(tiers={"small": TierProgress(succeeded=100)})).all_succeeded
