"""What a model answered becomes the stored output, or a problem in words for the re-ask."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tierq_shared.specs import SpecBody
from tierq_workers.answers import MAX_CHARS, MAX_VALUES, Kind, Problem

CLASSIFY = Kind(SpecBody(type="classify", name="n", labels={"bug": None, "billing": "money"}))
MULTI = Kind(SpecBody(type="classify", name="n", labels={"bug": None, "billing": None}, multi=True))
EXTRACT = Kind(
    SpecBody(
        type="extract",
        name="n",
        schema={
            "type": "object",
            "properties": {"total": {"type": "number"}, "note": {"type": "string"}},
            "required": ["total"],
            "additionalProperties": False,
        },
    )
)
ANSWER = Kind(SpecBody(type="answer", name="n"))
GENERATE = Kind(SpecBody(type="generate", name="n"))
PASSAGES = {"question": "q", "passages": [{"id": "p1", "text": "t"}, {"id": "p2", "text": "t"}]}


def output(kind: Kind, text: str, task_input: dict[str, Any] | None = None) -> Any:
    found = kind.check(text, task_input or {"text": "t"})
    assert isinstance(found, str), found
    return orjson.loads(found)


def problem(kind: Kind, text: str, task_input: dict[str, Any] | None = None) -> str:
    found = kind.check(text, task_input or {"text": "t"})
    assert isinstance(found, Problem), found
    return found.message


def test_each_type_stores_what_its_caller_gets() -> None:
    assert output(CLASSIFY, '{"label":"bug"}') == "bug"
    assert output(MULTI, '{"labels":["bug","billing","bug"]}') == ["bug", "billing"]
    assert output(MULTI, '{"labels":[]}') == []
    assert output(EXTRACT, '{"total":3.5,"note":"n"}') == {"total": 3.5, "note": "n"}
    assert output(GENERATE, "  two\nlines \n") == "two\nlines"
    answer = {"answer": "a", "citations": ["p2"], "answerable": True}
    assert output(ANSWER, orjson.dumps(answer).decode(), PASSAGES) == answer


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"label":"bug"}\n```',
        ' \n```\n{"label":"bug"}\n ```  \n',
        '<think>\nIs it {"label":"billing"}?\n</think>\n{"label":"bug"}',
        '<think></think>\n\n```json\n{"label":"bug"}\n```',
    ],
)
def test_a_fence_and_thoughts_before_the_answer_are_taken_off(text: str) -> None:
    assert output(CLASSIFY, text) == "bug"


@pytest.mark.parametrize("text", ["", "no", '{"label":', '{"label":"bug"} and more', '{"label":NaN}'])
def test_what_is_no_json_is_said(text: str) -> None:
    assert "no valid JSON" in problem(CLASSIFY, text)


def test_an_unknown_label_is_told_without_labels_of_either_side() -> None:
    assert problem(CLASSIFY, '{"label":"spam"}') == "at label: the value is none of those that the schema lists"
    assert problem(MULTI, '{"labels":["bug","spam"]}').startswith("at labels/1:")


@pytest.mark.parametrize("text", ["[]", "3", '"bug"', "{}", '{"label":"bug","more":1}', '{"label":null}', "null"])
def test_what_is_not_the_schema_is_a_problem(text: str) -> None:
    assert problem(CLASSIFY, text)


def test_a_field_of_the_wrong_type_is_said_with_its_place() -> None:
    assert problem(EXTRACT, '{"total":"three"}').startswith("at total:")
    assert len(problem(EXTRACT, orjson.dumps({"total": "x" * 10_000}).decode())) <= 500


def test_null_stands_for_an_optional_field_that_the_text_does_not_have() -> None:
    assert output(EXTRACT, '{"total":1,"note":null}') == {"total": 1}


def test_a_citation_must_name_a_passage() -> None:
    text = '{"answer":"a","citations":["p1","p9"],"answerable":true}'
    assert problem(ANSWER, text, PASSAGES) == "citation 2 of it is no id of a passage"


def test_an_empty_text_is_no_answer() -> None:
    assert problem(GENERATE, " \n") == "it is empty"


@pytest.mark.parametrize(("kind", "text"), [(GENERATE, "a\x00b"), (EXTRACT, '{"total":1,"note":"a\\u0000b"}')])
def test_a_nul_character_is_a_problem(kind: Kind, text: str) -> None:
    assert "NUL" in problem(kind, text)


def test_an_answer_about_nul_escapes_is_no_nul() -> None:
    """A text that spells a backslash and u0000 holds no NUL character."""
    assert output(EXTRACT, '{"total":1,"note":"write \\\\u0000"}') == {"total": 1, "note": "write \\u0000"}


def test_a_lone_surrogate_is_a_problem() -> None:
    assert problem(GENERATE, "a\ud800b")


DEEP = '{"a":' * 70 + "1" + "}" * 70


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('"' + "a" * MAX_CHARS + '"', "it is longer than 1,000,000 characters"),
        ("[" + "{}," * MAX_VALUES + "{}]", "it holds more than 50,000 values"),
        ('{"label":[' + ",".join(['"bug"'] * MAX_VALUES) + "]}", "it holds more than 50,000 values"),
        (DEEP, "it is nested deeper than 64 levels"),
        ("```json\n" + "\n" * (MAX_CHARS - 100) + "x```", "it is no valid JSON"),
        ('{"label":' + "9" * 900_000 + "}", "it is no valid JSON"),
    ],
    ids=["long", "many objects", "many texts", "deep", "an open fence", "a huge number"],
)
def test_an_answer_that_would_hold_the_loop_up_is_a_problem(text: str, told: str) -> None:
    assert problem(CLASSIFY, text).startswith(told)
