"""What `tierq evaluate` refuses before anything is started or spent, and what it quotes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from support.jobs import SETTINGS, job_of
from tierq_console.checking import check
from tierq_console.commands.evaluate import _nano
from tierq_console.cost_quote import quote
from tierq_console.evaluating import Order, Quote, Result, _refuse_over, evaluate
from tierq_console.evaluation_view import print_result, quote_lines, result_json
from tierq_console.progress_view import QuietView
from tierq_console.sample_file import labelled_job, read_samples
from tierq_console.targets import find_targets, load_scorer
from tierq_insight.evaluation.record import Judged
from tierq_insight.evaluation.report import report
from tierq_insight.evaluation.samples import Sample, Target
from tierq_shared.errors import InvalidInput
from tierq_shared.quoting.figures import Range
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings
from tierq_shared.tasks import Classify


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text("id,body,label\n1,one,bug\n2,two,bogus\n3,three,\n")
    return path


def never(_quote: Quote) -> bool:
    raise AssertionError("nothing is to be asked")


def run(job: Any, **more: Any) -> None:
    evaluate(Order(job, [Target("mini", "small")], **more), SETTINGS, QuietView(), never)


def test_a_missing_column_is_named_with_those_that_are_there(tickets: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no column 'expected'; the columns are id, body, label: .* --expected"):
        labelled_job(job_of(tickets), None)


def test_unknown_and_missing_labels_are_listed_with_their_lines(tickets: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        run(labelled_job(job_of(tickets, key="id"), "label"))
    told = str(refusal.value)
    assert "2 of 3 lines cannot be used; nothing was submitted and nothing spent" in told
    assert f"{tickets}:3: field 'label': 'bogus' is none of the labels; they are billing, bug" in told
    assert f"{tickets}:4: field 'label': is missing" in told


def test_lines_without_a_label_are_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"type": "classify", "text": "a", "labels": ["bug", "billing"], "key": "1"}\n')
    job = job_of(path, type=None, labels=None, text=None)
    with pytest.raises(InvalidInput, match="1: field 'expected': is missing"):
        run(labelled_job(job, None))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mimi", r"--deployments: there is no deployment 'mimi' \(did you mean 'mini'\?\); .* are mini, pro, spare"),
        ("spare", r"'spare' is in no tier's chain, .*: add it to a chain in tierq.toml"),
        (" ", "name at least one deployment; there are mini, pro, spare"),
    ],
)
def test_deployments_that_nobody_calls_are_refused(name: str, said: str) -> None:
    spare = {**SETTINGS.model_dump()["deployments"], "spare": {"provider": "openai", "model": "gpt-5"}}
    settings = Settings.model_validate({**SETTINGS.model_dump(), "deployments": spare})
    with pytest.raises(InvalidInput, match=said):
        find_targets(settings, [name], "--deployments")


def test_a_deployment_goes_to_the_cheapest_tier_that_has_it() -> None:
    assert find_targets(SETTINGS, ["pro", "mini", "pro"], "--deployments") == [
        Target("pro", "large"),
        Target("mini", "small"),
    ]


def test_generated_texts_need_somebody_who_scores_them(tmp_path: Path) -> None:
    path = tmp_path / "briefs.jsonl"
    path.write_text('{"prompt": "Write."}\n')
    job = labelled_job(job_of(path, type="generate", labels=None, text=None), None)
    with pytest.raises(InvalidInput, match="with --judge, or a function of your own with --scorer"):
        run(job)
    with pytest.raises(InvalidInput, match="leave the other out"):
        run(job, judge=Target("pro", "large"), scorer=("m:f", lambda *_: 1))


def test_a_judge_of_nothing_is_refused(tickets: Path) -> None:
    tickets.write_text("id,body,label\n1,one,bug\n")
    with pytest.raises(InvalidInput, match="of which there are none"):
        run(labelled_job(job_of(tickets), "label"), judge=Target("pro", "large"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scoring", "write it as module:function"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        ("json:no_such", "json has no function 'no_such'"),
    ],
)
def test_a_scorer_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        load_scorer(name)


MINI = Target("mini", "small")


def test_a_quote_is_by_deployment_and_unknown_prices_stay_unknown() -> None:
    samples = [Sample(n, str(n), Classify("word " * 100, ["bug", "billing"]), "bug") for n in range(1, 11)]
    one, ten = (quote(SETTINGS, Quoter(SETTINGS, None), MINI, some) for some in (samples[:1], samples))
    assert one is not None
    assert ten is not None
    assert ten.expected == pytest.approx(10 * one.expected, rel=0.01)
    assert 0 < ten.low < ten.expected < ten.high
    deployments = {
        "mini": {"provider": "openai", "model": "nobody-knows-it"},
        "pro": {"provider": "openai", "model": "x"},
    }
    unpriced = Settings.model_validate({**SETTINGS.model_dump(), "deployments": deployments})
    assert quote(unpriced, Quoter(unpriced, None), MINI, samples) is None
    lines = quote_lines(Quote({"mini": 10, "free": 10}, {"mini": ten, "free": None}))
    assert "free: 10 tasks, unpriced" in "\n".join(lines)


def test_a_cap_refuses_what_may_cost_more_with_what_is_spent() -> None:
    quoted = Quote({"mini": 1}, {"mini": Range(1, 2, 400_000_000)})
    _refuse_over(500_000_000, quoted, 100_000_000)
    _refuse_over(None, quoted, 10**12)
    with pytest.raises(InvalidInput, match=r"--max-cost \$0\.5000: .* \$0\.6000 with the \$0\.2000 that is spent"):
        _refuse_over(500_000_000, quoted, 200_000_000)
    with pytest.raises(InvalidInput, match="no price is known for free"):
        _refuse_over(10**12, Quote({"free": 1}, {"free": None}), 0)


def test_a_line_that_is_a_whole_task_brings_its_label(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    line = {"type": "classify", "text": "a", "labels": ["bug", "billing"], "key": "1", "tier": "large", "right": "bug"}
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "key": "2", "right": "billing"}) + "\n")
    job = labelled_job(job_of(path, type=None, labels=None, text=None), "right")
    samples = read_samples(job, check(job, SETTINGS, SETTINGS.make_policy()))
    assert [(sample.number, sample.key, sample.expected) for sample in samples] == [
        (1, "1", "bug"),
        (2, "2", "billing"),
    ]


def test_rows_set_aside_are_no_samples(tickets: Path) -> None:
    job = labelled_job(job_of(tickets, key="id", skip_bad=True), "label")
    assert [sample.key for sample in read_samples(job, check(job, SETTINGS, SETTINGS.make_policy()))] == ["1"]
    assert len(job.bad_path.read_text().splitlines()) == 2


def judged(task_id: str, score: float, cost_nusd: int | None) -> Judged:
    return Judged(
        task_id=task_id,
        sample=task_id,
        type="answer",
        name="faq",
        input_tokens=90,
        tier="small",
        deployment="mini",
        model="gpt-4o-mini",
        score=score,
        failed=not score,
        details={"citations": bool(score)},
        confidence=None,
        cost_nusd=cost_nusd,
        latency_ms=70,
    )


RESULT = Result(
    evaluation_id="e" * 32,
    batch_id="b" * 32,
    samples=2,
    deployments=["mini"],
    lines=report([judged("1", 1.0, 5_000), judged("2", 0.0, None)], ["mini"]),
    cost_nusd=5_000,
    judge_nusd=0,
    unpriced=1,
    missing=1,
    failed=1,
    seconds=1.5,
)


def test_a_result_is_told_to_people_with_what_is_not_known() -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=140), RESULT)
    told = out.getvalue()
    for part in (
        "answer faq",
        "unpriced",
        "0.500",
        "2 samples on mini in 1.5 s, $0.000005 and 1 unpriced",
        "1 answers failed",
    ):
        assert part in told
    assert "answerable" not in told, "nothing was expected of it"


@pytest.mark.parametrize(("width", "tables"), [(100, 1), (70, 2)])
def test_a_narrow_terminal_gets_a_table_of_quality_and_one_of_the_rest(width: int, tables: int) -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=width), RESULT)
    lines = out.getvalue().splitlines()
    assert sum(line.startswith("input") for line in lines) == tables
    figures = [line for line in lines if "–" in line and not line.startswith("answer")]
    assert figures
    assert max(map(len, figures)) <= width
    assert all("…" not in line for line in lines)


def test_a_result_says_what_comes_next() -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=100), RESULT)
    assert "`tierq policy derive --out policy.toml`" in out.getvalue().splitlines()[-1]


def test_a_result_is_told_to_programs() -> None:
    found = json.loads(json.dumps(result_json(RESULT)))
    assert (found["cost_usd"], found["unpriced"], found["failed"], found["missing"]) == ("0.000005", 1, 1, 1)
    (line,) = found["lines"]
    assert (line["right"]["value"], line["cost_usd_per_1000"], line["max_input_tokens"]) == (0.5, None, 250)


@pytest.mark.parametrize(("given", "nano"), [("0.5", 500_000_000), ("$2", 2_000_000_000), (" 0.000000001 ", 1)])
def test_a_cap_is_read_exactly(given: str, nano: int) -> None:
    assert _nano(given) == nano


@pytest.mark.parametrize("given", ["a lot", "0", "-1", "NaN", "inf"])
def test_a_cap_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput, match=f"--max-cost {given}"):
        _nano(given)
