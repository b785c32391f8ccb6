"""What answers come to, against values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tierq_insight.evaluation.bootstrap import interval_of_mean, interval_of_percentile, interval_of_sums, ratio
from tierq_insight.evaluation.measures import macro_f1, measure
from tierq_insight.evaluation.record import Judged
from tierq_insight.evaluation.report import bucket_in_words, report


def judged(**fields: Any) -> Judged:
    values: dict[str, Any] = {
        "task_id": "t",
        "sample": "s",
        "type": "classify",
        "name": "intent",
        "input_tokens": 100,
        "tier": "small",
        "deployment": "mini",
        "model": "gpt-4o-mini",
        "score": 1.0,
        "failed": False,
        "details": {"expected": "a", "given": "a"},
        "confidence": None,
        "cost_nusd": 1_000,
        "latency_ms": 10,
    }
    return Judged(**{**values, **fields})


def labels(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"expected": expected, "given": given} for expected, given in pairs]


def test_macro_f1_weighs_labels_alike() -> None:
    # a: 2 right of 3 expected and 2 given, so 4/5; b: 1 of 1 and 2, so 2/3.
    found = macro_f1(labels(("a", "a"), ("a", "a"), ("a", "b"), ("b", "b")))
    assert found is not None
    assert found.mean == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found.lower < found.mean < found.upper


def test_macro_f1_of_several_labels_and_of_a_failure() -> None:
    # a: 1 right, 2 expected, 1 given; b: 1, 1, 1; c: 0, 0, 1.
    found = macro_f1(labels((["a", "b"], ["b", "c"]), (["a"], ["a"]), ([], None)))
    assert found is not None
    assert found.mean == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("type_", ["classify", "extract", "answer"])
def test_of_answers_that_were_erased_the_scores_are_left(type_: str) -> None:
    known = measure([judged(type=type_, details={}, score=score) for score in (1.0, 0.0)])
    (score, *others) = list(known.items())[: list(known).index("cost_usd_per_1000")]
    assert score[1] is not None
    assert score[1].mean == 0.5
    assert [figure for _, figure in others] == [None] * len(others)


def test_classify_is_accuracy_cost_latency_and_failures() -> None:
    answers = [
        judged(latency_ms=latency, cost_nusd=cost, score=score)
        for latency, cost, score in ((10, 1_000, 1.0), (30, 3_000, 1.0), (20, 2_000, 0.0))
    ]
    answers.append(judged(failed=True, score=0.0, details={"expected": "a", "given": None}, latency_ms=9_999))
    found = measure(answers)
    values = {name: interval and interval.mean for name, interval in found.items()}
    assert values["accuracy"] == 0.5
    assert values["cost_usd_per_1000"] == pytest.approx(1_750 * 1_000 / 1e9)
    assert (values["p50_ms"], values["p95_ms"]) == (20, 30), "of answers alone"
    assert values["failure_rate"] == 0.25
    assert all(one is None or one.lower <= one.mean <= one.upper for one in found.values())
    # Wilson's interval of 2 of 4.
    accuracy = found["accuracy"]
    assert accuracy is not None
    assert (accuracy.lower, accuracy.upper) == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_one_unpriced_answer_leaves_the_cost_unknown() -> None:
    assert measure([judged(), judged(cost_nusd=None)])["cost_usd_per_1000"] is None


def test_extract_has_precision_and_recall_over_all_fields() -> None:
    details = [
        {"found": 3, "given": 4, "expected": 6, "exact": False},
        {"found": 1, "given": 4, "expected": 2, "exact": True},
    ]
    found = measure([judged(type="extract", score=0.5, details=one) for one in details])
    values = {name: interval and interval.mean for name, interval in found.items()}
    assert (values["fields_right"], values["precision"], values["recall"], values["exact_match"]) == (
        0.5,
        0.5,
        0.5,
        0.5,
    )


def test_answer_measures_only_what_was_expected() -> None:
    details = [{"answerable": True, "citations": False}, {"answerable": True}]
    found = measure([judged(type="answer", score=1.0, details=one) for one in details])
    assert [(found[name] or pytest.fail(name)).mean for name in ("answerable", "citations")] == [1.0, 0.0]
    assert found["answer_words"] is None


def test_the_bootstrap_of_a_mean_agrees_with_its_standard_error() -> None:
    values = [float(one) for one in range(100)]
    found = interval_of_mean(values)
    assert found is not None
    error = 1.96 * np.std(values) / 10
    assert (found.lower, found.upper) == pytest.approx((49.5 - error, 49.5 + error), abs=0.6)
    assert found == interval_of_mean(values), "the same evidence gives the same figures"


def test_many_rows_are_resampled_as_few_are() -> None:
    values = [float(one % 97) + one / 1e6 for one in range(4_000)]
    many, few = interval_of_mean(values), interval_of_mean([float(one % 97) for one in range(4_000)])
    assert many is not None
    assert few is not None
    assert (many.lower, many.upper) == pytest.approx((few.lower, few.upper), abs=0.1)


def test_nothing_has_no_interval_and_no_denominator_is_no_error() -> None:
    assert interval_of_mean([]) is interval_of_percentile([], 50) is interval_of_sums([], ratio) is None
    none_given = interval_of_sums([(0, 0), (0, 0)], ratio)
    assert none_given is not None
    assert none_given.mean == 0


def test_a_percentile_lies_between_its_order_statistics() -> None:
    found = interval_of_percentile(list(range(1, 101)), 50)
    assert found is not None
    # 1.96 · sqrt(100 · 0.5 · 0.5) = 9.8 ranks to either side.
    assert (found.mean, found.lower, found.upper) == (50, 41, 60)


def test_lines_go_by_kind_bucket_and_deployment() -> None:
    answers = [
        judged(deployment=deployment, input_tokens=tokens, name=name)
        for deployment in ("pro", "mini")
        for name, tokens in (("intent", 100), ("intent", 300), ("other", 100_000))
    ]
    lines = report(answers, ["mini", "pro"])
    assert [(line.name, bucket_in_words(line.bucket), line.deployment, line.answers) for line in lines] == [
        ("intent", "≤ 250 tokens", "mini", 1),
        ("intent", "≤ 250 tokens", "pro", 1),
        ("intent", "≤ 1,000 tokens", "mini", 1),
        ("intent", "≤ 1,000 tokens", "pro", 1),
        ("intent", "all", "mini", 2),
        ("intent", "all", "pro", 2),
        ("other", "> 64,000 tokens", "mini", 1),
        ("other", "> 64,000 tokens", "pro", 1),
    ]
    assert lines[0].json()["accuracy"]["value"] == 1.0
