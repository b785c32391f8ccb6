"""How far two answers agree, by the type of their task."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tierq_shared.agreement import JUDGED, agreement
from tierq_shared.specs import TaskType


def agree(type_: TaskType, one: Any, other: Any) -> float:
    first, second = (orjson.dumps(value).decode() for value in (one, other))
    assert agreement(type_, first, second) == agreement(type_, second, first), "neither answer is the measure"
    return agreement(type_, first, second)


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        ("bug", "bug", 1.0),
        ("bug", "praise", 0.0),
        (["bug", "praise"], ["praise", "bug"], 1.0),
        (["bug"], ["bug", "praise"], 0.0),
        ([], [], 1.0),
    ],
)
def test_labels_agree_as_a_whole(one: Any, other: Any, score: float) -> None:
    assert agree("classify", one, other) == score


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, 1.0),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, 0.5),
        ({"a": 1}, {"a": 1, "b": None}, 1.0),
        ({"a": 1}, {"a": 1, "b": 2, "c": 3, "d": 4}, 0.25),
        ({"a": {"x": 1, "y": 2}, "b": [1, 2]}, {"a": {"x": 1, "y": 3}, "b": [2, 1]}, 1 / 3),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"y": 2, "x": 1}]}, 1.0),
        ({}, {}, 1.0),
    ],
)
def test_of_an_extraction_the_share_of_equal_fields_counts(one: Any, other: Any, score: float) -> None:
    assert agree("extract", one, other) == pytest.approx(score)


def found(*citations: str, text: str = "any") -> dict[str, Any]:
    return {"answer": text, "citations": list(citations), "answerable": True}


NOT_FOUND = {"answer": "", "citations": [], "answerable": False}


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        (found("p1", "p2"), found("p2", text="in other words"), 1.0),
        (found("p1"), found("p2"), 0.0),
        (found("p1"), found(), 0.0),
        (found(), found(), 1.0),
        (NOT_FOUND, NOT_FOUND, 1.0),
        (found("p1"), NOT_FOUND, 0.0),
    ],
)
def test_answers_agree_where_they_stand_on_the_same_ground(one: Any, other: Any, score: float) -> None:
    assert agree("answer", one, other) == score


def test_free_texts_are_not_compared() -> None:
    assert "generate" not in JUDGED
    with pytest.raises(ValueError, match="generate cannot be compared"):
        agreement("generate", '"a"', '"a"')
