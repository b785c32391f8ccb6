"""Scores against values computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tierq_insight.evaluation.judging import judge_task, score_by, score_of_grade
from tierq_insight.evaluation.samples import Sample, Target, all_tasks, samples_hash
from tierq_insight.evaluation.scores import score_answer, score_fields, score_labels, word_f1
from tierq_shared.errors import InvalidInput
from tierq_shared.tasks import Classify, Generate


@pytest.mark.parametrize(
    ("expected", "given", "value"),
    [("bug", "bug", 1), ("bug", "billing", 0), ("bug", None, 0), (["a", "b"], ["b", "a"], 1), (["a", "b"], ["a"], 0)],
)
def test_a_label_is_right_or_wrong(expected: Any, given: Any, value: float) -> None:
    assert score_labels(expected, given).value == value


INVOICE = {"vendor": "ACME Ltd", "number": None, "total": 12.5, "lines": [{"what": "Oak", "price": 2}, {"what": "Ash"}]}


@pytest.mark.parametrize(
    ("given", "value", "found", "told", "exact"),
    [
        (INVOICE, 1.0, 5, 5, True),
        ({**INVOICE, "vendor": "acme  LTD", "total": 12.50}, 1.0, 5, 5, True),
        ({**INVOICE, "total": 13}, 5 / 6, 4, 5, False),
        ({**INVOICE, "number": "17"}, 5 / 6, 5, 6, False),
        ({name: one for name, one in INVOICE.items() if name != "number"}, 1.0, 5, 5, True),
        ({**INVOICE, "lines": [{"what": "Ash"}]}, 3 / 6, 2, 3, False),
        ({**INVOICE, "total": True}, 5 / 6, 4, 5, False),
        (None, 0.0, 0, 0, False),
    ],
    ids=["all", "case and zeros", "wrong", "made up", "null is missing", "fewer items", "no number", "failed"],
)
def test_fields_are_counted_leaf_by_leaf(given: Any, value: float, found: int, told: int, exact: bool) -> None:
    scored = score_fields(INVOICE, given)
    assert scored.value == pytest.approx(value)
    assert scored.details == {"found": found, "given": told, "expected": 5, "exact": exact}


def answer(text: str, citations: list[str], answerable: bool = True) -> dict[str, Any]:
    return {"answer": text, "citations": citations, "answerable": answerable}


def test_an_answer_is_right_where_grounds_and_answerability_are() -> None:
    expected = answer("Two and a half hours.", ["p1", "p2"])
    good = score_answer(expected, answer("two hours", ["p2", "p1"]))
    assert (good.value, good.details["answerable"], good.details["citations"]) == (1.0, True, True)
    assert good.details["words"] == pytest.approx(2 * 2 / (4 + 2))
    assert score_answer(expected, answer("Two and a half hours.", ["p1"])).value == 0.0
    assert score_answer(expected, answer("Two.", ["p1", "p2"], answerable=False)).value == 0.0
    assert score_answer(expected, None).details == {"answerable": False, "citations": False, "words": 0.0}
    assert score_answer({"answerable": False}, answer("No.", [], answerable=False)).value == 1.0


def test_words_are_the_score_where_nothing_else_is_expected() -> None:
    assert score_answer({"answer": "The blue sky"}, answer("a sky, blue!", [])).value == 1.0
    assert word_f1("red green blue", "green") == pytest.approx(0.5)
    assert word_f1("red", "blue") == word_f1("red", "") == 0.0


def brief(expected: str | None = None) -> Sample:
    return Sample(1, "B-1", Generate("Write a line about the sea.", instructions="Be plain."), expected)


def test_a_judge_gets_brief_text_and_reference_and_its_grade_is_a_share() -> None:
    task = judge_task(brief("The sea is wide."), "The sea is blue.")
    assert task.type == "classify"
    for part in ("Be plain.", "Write a line about the sea.", "The sea is blue.", "The sea is wide."):
        assert part in task.input_json
    assert [score_of_grade(grade, "sol").value for grade in "12345"] == [0, 0.25, 0.5, 0.75, 1]


def test_a_scorer_of_the_users_own_gives_the_score() -> None:
    def longer(prompt: str, text: str, expected: object) -> float:
        return float(len(text) > len(prompt) and expected is None)

    assert score_by(longer, "m:longer", brief(), "x" * 100).value == 1.0
    with pytest.raises(InvalidInput, match=r"--scorer m:f: gave 2 on sample B-1: return a number from 0"):
        score_by(lambda *_: 2, "m:f", brief(), "x")
    with pytest.raises(InvalidInput, match="raised ZeroDivisionError on sample B-1"):
        score_by(lambda *_: 1 / 0, "m:f", brief(), "x")


def test_a_sample_is_pinned_to_its_deployment() -> None:
    sample = Sample(7, "T-7", Classify("text", ["a", "b"], min_tier="small", stakes="high"), "a")
    one, two = all_tasks([sample], [Target("mini", "small"), Target("pro", "large")])
    assert (one.key, two.key) == ("mini/7", "pro/7")
    assert one.options == {"tier": "small", "require": {"deployment": "mini"}, "urgency": "relaxed"}
    assert one.input_json == sample.task.input_json


def test_the_samples_hash_changes_with_text_label_and_order() -> None:
    def hashed(*pairs: tuple[str, str]) -> str:
        return samples_hash(
            Sample(n, str(n), Classify(text, ["a", "b"]), label) for n, (text, label) in enumerate(pairs)
        )

    found = {hashed(("x", "a"), ("y", "b")), hashed(("x", "b"), ("y", "b")), hashed(("y", "b"), ("x", "a"))}
    assert len(found) == 3
    assert hashed(("x", "a"), ("y", "b")) in found
