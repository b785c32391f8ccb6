"""Labels that no answer could be like are refused, with the column and the mend."""

from __future__ import annotations

from typing import Any

import pytest

from tierq_insight.evaluation.expected import Expectations
from tierq_shared.errors import InvalidTask
from tierq_shared.tasks import Answer, Classify, Extract, Generate, Task

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
ONE = Classify("text", ["billing", "bug"])
SEVERAL = Classify("text", ["billing", "bug"], multi=True)
FIELDS: Task[Any] = Extract("text", SCHEMA)
QUESTION = Answer("Why?", {"p1": "Because.", "p2": "Therefore."})
TEXT = Generate("Write.")


@pytest.mark.parametrize(
    ("task", "given", "kept"),
    [
        (ONE, "bug", "bug"),
        (SEVERAL, '["bug", "billing"]', ["billing", "bug"]),
        (SEVERAL, "bug, billing", ["billing", "bug"]),
        (SEVERAL, [], []),
        (FIELDS, '{"total": 1}', {"total": 1}),
        (QUESTION, {"answer": None, "citations": [], "answerable": False}, {"citations": [], "answerable": False}),
        (QUESTION, '{"citations": ["p2"]}', {"citations": ["p2"]}),
        (TEXT, None, None),
        (TEXT, "like this", "like this"),
    ],
)
def test_labels_are_taken_in_the_forms_that_files_have(task: Task[Any], given: Any, kept: Any) -> None:
    assert Expectations("label").check(task, given) == kept


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (ONE, None, "is missing"),
        (ONE, "", "is missing"),
        (ONE, "bugs", r"'bugs' is none of the labels \(did you mean 'bug'\?\); they are billing, bug"),
        (SEVERAL, ["bug", "x"], "'x' is none of the labels"),
        (SEVERAL, 7, "must be a list of labels"),
        (FIELDS, "{total}", "is broken JSON"),
        (FIELDS, [1], "must be an object, not list"),
        (FIELDS, {"total": "much"}, "does not fit the schema at total"),
        (QUESTION, {}, "is empty: give some of answer, citations, answerable"),
        (QUESTION, {"citation": []}, r"has 'citation' \(did you mean 'citations'\?\)"),
        (QUESTION, {"citations": ["p3"]}, "cites 'p3', which is none of its passages; they are p1, p2"),
        (QUESTION, {"citations": "p1"}, "citations must be a list"),
        (QUESTION, {"answerable": "yes"}, "answerable must be true or false"),
    ],
)
def test_other_labels_are_refused(task: Task[Any], given: Any, said: str) -> None:
    with pytest.raises(InvalidTask, match=said) as refusal:
        Expectations("label").check(task, given)
    assert refusal.value.field == "label"
