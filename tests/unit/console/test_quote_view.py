"""What is said of a quote: before, while and after its batch runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tierq_console.quote_view import outcome_json, outcome_lines, quote_json, quote_lines
from tierq_shared.quoting.figures import Quote, Range, TierQuote
from tierq_shared.store.reading import Progress, TierProgress

TIER = TierQuote(
    tasks=1_200,
    unpriced_tasks=0,
    cost_nusd=Range(900_000_000, 1_000_000_000, 1_100_000_000),
    seconds=Range(8.0, 12.0, 75.0),
    deployment="mini",
    if_failed_over_nusd=3_000_000_000,
    workers=1,
    backlog=9,
    learned_calls=500,
)
QUOTE = Quote(1_200, 0, TIER.cost_nusd, TIER.seconds, {"small": TIER}, ("something is left out",))
BEGAN = datetime(2031, 5, 1, 12, tzinfo=UTC)


def progress(done: int, cost: int, quote: Quote | None = QUOTE) -> Progress:
    over = BEGAN + timedelta(seconds=10) if done == 1_200 else None
    tiers = {"small": TierProgress(succeeded=done, cost_nusd=cost)}
    return Progress("b1", "finished" if over else "running", 1_200, tiers, 0, BEGAN, over, quote=quote)


def test_a_quote_in_lines() -> None:
    assert quote_lines(QUOTE) == [
        "1,200 tasks: $1.0000 ($0.9000 to $1.1000) · 12 s (8.0 s to 0:01:15)",
        "  small: 1,200 on mini, $1.0000 ($0.9000 to $1.1000) · 12 s (8.0 s to 0:01:15) (1 live worker, 9 tasks ahead)",
        "    if mini is down all the while: $3.0000",
        "  note: something is left out",
    ]


def test_a_quote_in_json() -> None:
    found = quote_json(QUOTE)
    assert found["cost_usd"] == {"low": "0.9", "expected": "1", "high": "1.1"}
    assert found["seconds"] == {"low": 8.0, "expected": 12.0, "high": 75.0}
    assert found["by_tier"]["small"]["if_failed_over_usd"] == "3"
    assert found["notes"] == ["something is left out"]


def test_unpriced_tasks_are_said() -> None:
    some = replace(QUOTE, unpriced_tasks=30, tiers={})
    assert quote_lines(some)[0].startswith("1,200 tasks: $1.0000 ($0.9000 to $1.1000) and 30 unpriced · ")
    none = replace(QUOTE, cost_nusd=None, unpriced_tasks=1_200, seconds=None, tiers={})
    assert quote_lines(none)[0] == "1,200 tasks: 1,200 unpriced · time unknown"
    assert list(outcome_lines(progress(1_200, 500, none))) == ["quoted: 1,200 unpriced; actual $0.000000"]


def test_after_the_run_the_error_is_shown() -> None:
    assert list(outcome_lines(progress(1_200, 800_000_000))) == [
        "quoted: $1.0000 ($0.9000 to $1.1000); actual $0.8000, quoted 25.0 % too much",
        "quoted: 12 s (8.0 s to 0:01:15); actual 10 s, quoted 20.0 % too much",
    ]
    low = next(outcome_lines(progress(1_200, 1_250_000_000)))
    assert low.endswith("actual $1.2500, quoted 20.0 % too little")
    assert next(outcome_lines(progress(1_200, 1_000_000_001))).endswith(", as quoted")
    told = outcome_json(progress(1_200, 800_000_000))
    assert told is not None
    assert (told["cost_error"], told["time_error"], told["actual_seconds"]) == (0.25, 0.2, 10.0)


def test_a_batch_that_was_stopped_is_no_measure_of_its_quote() -> None:
    stopped = replace(progress(1_200, 5_000), tiers={"small": TierProgress(700, cancelled=500, cost_nusd=800_000_000)})
    assert list(outcome_lines(replace(stopped, unpriced=3))) == [
        "quoted: $1.0000 ($0.9000 to $1.1000); actual $0.8000 and 3 unpriced",
        "quoted: 12 s (8.0 s to 0:01:15); actual 10 s",
    ]


def test_while_it_runs_there_is_no_error_yet() -> None:
    assert list(outcome_lines(progress(5, 1))) == ["quoted: $1.0000 ($0.9000 to $1.1000) · 12 s (8.0 s to 0:01:15)"]
    told = outcome_json(progress(5, 1))
    assert told is not None
    assert (told["cost_error"], told["time_error"]) == (None, None)


def test_a_batch_that_was_not_quoted_says_nothing() -> None:
    assert list(outcome_lines(progress(1_200, 1, None))) == []
    assert outcome_json(progress(1_200, 1, None)) is None
