"""Every figure of a report, against a ledger that is added up by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support import sample_ledger
from support.sample_ledger import BASELINE, BLUE, FIRST, LATER
from tierq_insight.report import Known, Report, Scope, make_report
from tierq_insight.report.figures import CacheUse, DearPart, Judged, Latency, Move, Sums
from unit.store.installation import Installation

ALWAYS = Scope()


@pytest.fixture
def here(here: Installation) -> Installation:
    sample_ledger.write(here.store)
    return here


def reported(here: Installation, scope: Scope = ALWAYS, by: str = "model") -> Report:
    return make_report(here.store, scope, Known(cheapest_tier="small", baseline=BASELINE), by)


def lines(report: Report) -> dict[str, Sums]:
    return {line.name: line.sums for line in report.lines}


def test_the_total(here: Installation) -> None:
    report = reported(here)
    assert report.total == Sums(16, 9, 3_060, 1, 169, 132)
    assert (report.first, report.last) == (FIRST + timedelta(seconds=1), LATER + timedelta(seconds=2))
    assert (report.unit, report.is_empty) == ("day", False)


def test_the_splits_add_up_to_it(here: Installation) -> None:
    assert lines(reported(here, by="model")) == {
        "small-a": Sums(11, 4, 1_330, 0, 60, 42),
        "middle": Sums(3, 3, 1_430, 0, 49, 35),
        "small-b": Sums(1, 1, 300, 0, 20, 5),
        "big-model": Sums(1, 1, 0, 1, 40, 50),
    }
    assert lines(reported(here, by="tier"))["small"] == Sums(12, 5, 1_630, 0, 80, 47)
    assert lines(reported(here, by="type")) == {
        "extract": Sums(7, 4, 2_130, 0, 79, 61),
        "classify": Sums(7, 3, 860, 0, 45, 16),
        "answer": Sums(1, 1, 70, 0, 5, 5),
        "generate": Sums(1, 1, 0, 1, 40, 50),
    }
    assert list(lines(reported(here, by="deployment"))) == ["flash", "luna", "haiku", "sol"]
    assert lines(reported(here, by="day")) == {
        "2026-11-01": Sums(14, 7, 2_540, 1, 152, 115),
        "2026-11-06": Sums(2, 2, 520, 0, 17, 17),
    }


def test_a_tasks_own_tag_wins_over_its_batchs(here: Installation) -> None:
    assert {name: sums.cost_nusd for name, sums in lines(reported(here, by="tag:team")).items()} == {
        "–": 1_040,
        "blue": 1_020,
        "red": 1_000,
    }
    assert list(lines(reported(here, by="tag:nobody"))) == ["–"]


def test_every_call_is_under_one_heading(here: Installation) -> None:
    found = {line.name: (line.sums.calls, line.sums.cost_nusd) for line in reported(here).uses}
    assert found == {
        "answers": (7, 1_520),
        "rejected answers": (2, 110),
        "unknown outcome": (1, 900),
        "throttled": (1, 0),
        "failed calls": (2, 10),
        "measuring quality": (2, 520),
        "under way": (1, 0),
    }


def test_the_saving_charges_everything_to_our_side_and_one_call_a_task_to_the_baseline(here: Installation) -> None:
    saving = reported(here).saving
    assert saving is not None
    # Tasks 1, 2, 3, 4, 8 and the kept answer of 11; not the shadow, the evaluation, the failed and the cached one.
    assert (saving.answers, saving.input_tokens, saving.output_tokens) == (6, 119, 93)
    assert (saving.cost_nusd, saving.baseline_nusd) == (3_060, 119 * 2 + 93 * 10)
    assert saving.saved_share == pytest.approx(1 - 3_060 / 1_168)
    assert (saving.unpriced, saving.share) == (1, None)


def test_tasks_and_which_of_them_were_simple(here: Installation) -> None:
    report = reported(here)
    # Not the shadow, nor the evaluation's.
    assert report.states == {"succeeded": 7, "failed": 1, "running": 1}
    assert report.simple_share == pytest.approx(3 / 6)
    assert report.answered_by_tier == {
        ("classify", "small"): 2,
        ("extract", "medium"): 2,
        ("extract", "small"): 1,
        ("generate", "large"): 1,
    }
    assert report.cache == CacheUse(hits=1, spared_nusd=100, unpriced=0)
    assert report.judged == [Judged("luna", 1, 0.75)]


def test_the_dearest_tasks(here: Installation) -> None:
    dear = reported(here).concentration
    assert (dear.tasks, dear.cost_nusd, dear.dearest, dear.dearest_nusd) == (9, 3_060, 1, 1_000)
    assert dear.parts == [DearPart("extract", "invoice", "small", 1, 1_000)]


def test_latencies_are_those_of_answers(here: Installation) -> None:
    assert reported(here).latencies == [
        Latency("big-model", 1, 12_300, 12_300, 12_300),
        Latency("middle", 3, 410, 420, 420),
        Latency("small-b", 1, 200, 200, 200),
        Latency("small-a", 4, 100, 150, 150),
    ]


def test_what_happened_after_a_first_call(here: Installation) -> None:
    report = reported(here)
    assert sorted(report.moves, key=lambda move: (move.kind, move.why)) == [
        Move("escalation", "small", "luna", "medium", "flash", "invalid_output", 1),
        Move("escalation", "small", "luna", "medium", "flash", "succeeded", 1),
        Move("failover", "small", "luna", "small", "haiku", "overloaded", 1),
        Move("reask", "small", "luna", "small", "luna", "invalid_output", 1),
        Move("retry", "small", "luna", "small", "luna", "rate_limited", 1),
        Move("retry", "small", "luna", "small", "luna", "unknown", 1),
    ]
    assert [report.moves_of(kind) for kind in ("failover", "escalation", "reask", "retry")] == [1, 2, 1, 2]


def test_one_batch_alone(here: Installation) -> None:
    report = reported(here, Scope(BLUE))
    assert report.total == Sums(10, 4, 2_020, 0, 97, 54)
    assert report.saving is not None
    assert (report.saving.answers, report.saving.cost_nusd) == (4, 2_020)
    assert report.concentration.cost_nusd == 2_020
    assert report.cache.hits == 0
    assert report.moves_of("escalation") == 1


def test_a_span_of_time_alone(here: Installation) -> None:
    late = reported(here, Scope(since=LATER))
    assert (late.total.cost_nusd, late.unit, late.states) == (520, "minute", {"succeeded": 1})
    early = reported(here, Scope(until=LATER))
    assert early.total + late.total == Sums(16, 9, 3_060, 1, 169, 132)
    assert reported(here, Scope(since=LATER + timedelta(days=1))).is_empty


@pytest.mark.parametrize(
    ("seconds", "unit"), [(7_000, "minute"), (8_000, "hour"), (260_000, "day"), (130 * 86_400, "month")]
)
def test_time_is_counted_in_what_suits_the_span(here: Installation, seconds: int, unit: str) -> None:
    from tierq_shared.store.tables import attempts

    here.set(attempts, attempts.c.ordinal > 1, started_at=FIRST + timedelta(seconds=seconds))
    here.set(attempts, attempts.c.ordinal == 1, started_at=FIRST)
    report = reported(here)
    digits = {"minute": 16, "hour": 13, "day": 10, "month": 7}[unit]
    end = FIRST + timedelta(seconds=seconds)
    assert report.unit == unit
    assert {cell.time for cell in report.cells} == {f"{time:%Y-%m-%d %H:%M}"[:digits] for time in (FIRST, end)}


def test_the_same_ledger_makes_the_same_report_and_leaves_nothing_behind(here: Installation) -> None:
    first = reported(here)
    again = reported(here)
    assert first.saving == again.saving
    assert list(first.cells) == list(again.cells)
