"""Tasks of rows: columns under one spec, and lines that are tasks of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tierq_console.inputs import Row
from tierq_console.rows import ColumnTasks, LineTasks, make_spec, read_deadline, read_passages
from tierq_shared.errors import InvalidTask
from tierq_shared.tasks import Task


def content(task: Task[Any]) -> Any:
    return orjson.loads(task.input_json)


def of_columns(values: dict[str, Any], key: str | None = None) -> Task[Any]:
    spec = make_spec("classify", {"labels": ["a", "b"], "name": "kind"}, {"urgency": "relaxed"})
    return ColumnTasks(spec, {"text": "body"}, key).task(Row(4, values), "line 4")


def of_line(**values: Any) -> Task[Any]:
    return LineTasks({"tier": "small", "stakes": "high"}).task(Row(1, values), "line 1")


class TestColumns:
    def test_a_task_of_its_columns(self) -> None:
        task = of_columns({"body": "hello", "id": "A7"}, key="id")
        assert (task.key, task.content.name, content(task)) == ("A7", "kind", {"text": "hello"})
        assert task.options == {"urgency": "relaxed"}

    def test_without_a_key_column_the_place_is_the_key(self) -> None:
        assert of_columns({"body": "hello"}).key == "line 4"

    @pytest.mark.parametrize(
        ("values", "field", "reason"),
        [
            ({"id": "1"}, "body", "is missing"),
            ({"id": "1", "body": None}, "body", "is missing"),
            ({"id": "1", "body": " "}, "body", "is empty"),
            ({"id": "1", "body": 17}, "body", "must be text, not int"),
            ({"id": "1", "body": "a\x00b"}, "body", "NUL"),
            ({"id": "1", "body": "caf\udce9"}, "body", "holds byte 0xe9, which is not UTF-8"),
            ({"id": "1", "body": "x" * 1_000_001}, "body", "is 1,000,001 bytes; the limit is 1,000,000"),
            ({"id": "", "body": "x"}, "id", "is empty"),
            ({"id": "k" * 201, "body": "x"}, "id", "is 201 characters; the limit is 200"),
            ({"id": 1.5, "body": "x"}, "id", "must be text"),
        ],
    )
    def test_what_is_wrong_is_told_by_the_column(self, values: dict[str, Any], field: str, reason: str) -> None:
        with pytest.raises(InvalidTask, match=reason) as caught:
            of_columns(values, key="id")
        assert caught.value.field == field

    def test_an_answer_takes_question_and_passages(self) -> None:
        maker = ColumnTasks(make_spec("answer", {}), {"question": "q", "passages": "found"}, None)
        task = maker.task(Row(2, {"q": "why?", "found": '["one", "two"]'}), "line 2")
        assert content(task)["passages"] == [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]


class TestLines:
    @pytest.mark.parametrize(
        ("values", "stored"),
        [
            ({"type": "classify", "text": "x", "labels": ["a", "b"], "multi": True}, {"text": "x"}),
            (
                {"type": "extract", "text": "x", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
                {"text": "x"},
            ),
            (
                {"type": "answer", "question": "q", "passages": [{"id": "p", "text": "t"}]},
                {"question": "q", "passages": [{"id": "p", "text": "t"}]},
            ),
            ({"type": "generate", "prompt": "p", "instructions": "short", "max_output_tokens": 9}, {"prompt": "p"}),
        ],
    )
    def test_each_type(self, values: dict[str, Any], stored: dict[str, Any]) -> None:
        task = of_line(**values)
        assert (task.type, content(task), task.key) == (values["type"], stored, "line 1")

    @pytest.mark.parametrize(("given", "age"), [("7d", timedelta(days=7)), (60, timedelta(minutes=1)), (True, True)])
    def test_a_line_says_how_old_a_stored_answer_may_be(self, given: object, age: object) -> None:
        assert of_line(type="generate", prompt="p", cache=given).options.get("cache") == age

    def test_a_line_says_more_than_the_command_line(self) -> None:
        task = of_line(type="generate", prompt="p", key=7, stakes="low", min_tier="medium", deadline="2h", tags=None)
        # The pin of the command line gives way: a line that names a tier means what it says.
        assert task.options == {"stakes": "low", "min_tier": "medium", "deadline": timedelta(hours=2)}
        assert task.key == "7"

    @pytest.mark.parametrize(
        ("values", "field", "reason"),
        [
            ({"text": "x"}, "type", "is missing: give each line one of classify"),
            ({"type": "classfy", "text": "x"}, "type", r"did you mean 'classify'\?"),
            ({"type": "classify", "text": "x"}, "labels", "is missing: a task of type classify needs it"),
            ({"type": "classify", "text": "x", "labels": ["a"]}, "labels", "1 labels; give 2 to 500"),
            ({"type": "classify", "labels": ["a", "b"]}, "text", "is missing"),
            ({"type": "generate", "prompt": "x", "prompd": "y"}, "prompd", r"did you mean 'prompt'\?"),
            ({"type": "generate", "prompt": "x", "priority": 17}, "priority", "from 0"),
            ({"type": "generate", "prompt": "x", "deadline": "soon"}, "deadline", "neither a span"),
            ({"type": "generate", "prompt": "x", "cache": "old"}, "cache", "'old' is not a span"),
            ({"type": "generate", "prompt": "x", "cache": []}, "cache", "must be True, False"),
            ({"type": "generate", "prompt": "x", "max_cost": "a lot"}, "max_cost", "no amount in USD"),
        ],
    )
    def test_what_is_wrong_is_told_by_the_field(self, values: dict[str, Any], field: str, reason: str) -> None:
        with pytest.raises(InvalidTask, match=reason) as caught:
            of_line(**values)
        assert caught.value.field == field

    def test_lines_of_one_kind_share_one_spec(self) -> None:
        maker = LineTasks({})
        first, second = (
            maker.task(Row(n, {"type": "classify", "text": str(n), "labels": ["a", "b"]}), f"line {n}") for n in (1, 2)
        )
        assert first.content is second.content


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("just a text", {"1": "just a text"}),
        (["a", "b"], {"1": "a", "2": "b"}),
        ('{"p1": "t"}', {"p1": "t"}),
        ('[{"id": "p", "text": "t"}]', [{"id": "p", "text": "t"}]),
    ],
)
def test_passages_come_in_several_shapes(value: object, read: object) -> None:
    assert read_passages(value) == read


@pytest.mark.parametrize("value", ["[1", 17])
def test_passages_that_cannot_be_read_are_refused(value: object) -> None:
    with pytest.raises(InvalidTask) as caught:
        read_passages(value)
    assert caught.value.field == "passages"


def test_deadlines_are_spans_or_times_with_their_zone() -> None:
    assert read_deadline("90m") == timedelta(minutes=90)
    assert read_deadline("2031-05-01T12:00:00Z") == datetime(2031, 5, 1, 12, tzinfo=UTC)
    for wrong in ("2031-05-01T12:00:00", "0s", -3, "soon"):
        with pytest.raises(InvalidTask):
            read_deadline(wrong)
