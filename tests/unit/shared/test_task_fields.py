"""The fields of a task and of its options: what each takes, and what it says to what it does not."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tierq_shared import checks, tasks
from tierq_shared.checks import MAX_INPUT_BYTES
from tierq_shared.errors import InvalidTask
from tierq_shared.tasks import Answer, AnswerOutput, Classify, Extract, Generate, Task

LABELS = ["bug", "billing"]
PASSAGES = {"a": "Refunds take five days."}
SECRET = "the customer's own words"


class Invoice(BaseModel):
    number: str


def classify(text: Any = "It crashes.", **options: Any) -> Task[Any]:
    return Classify(text, LABELS, **options)


def answer(passages: Any) -> Task[Any]:
    return Answer("How long?", passages)


def refusal(make: Any, *arguments: Any, **options: Any) -> tuple[str | None, str]:
    """The field and the reason with which something is refused."""
    with pytest.raises(InvalidTask) as caught:
        make(*arguments, **options)
    assert str(caught.value) == f"field {caught.value.field!r}: {caught.value.reason}"
    return caught.value.field, caught.value.reason


# Texts.

TEXTS = [
    ("text", lambda value: Classify(value, LABELS)),
    ("text", lambda value: Extract(value, Invoice)),
    ("text", Classify.spec("triage", LABELS)),
    ("question", lambda value: Answer(value, PASSAGES)),
    ("passages", lambda value: Answer("Why?", {"a": value})),
    ("passages", lambda value: Answer("Why?", {value: "Because."})),
    ("prompt", Generate),
    ("prompt", Generate.spec("story")),
    ("tier", lambda value: classify(tier=value)),
    ("min_tier", lambda value: classify(min_tier=value)),
    ("max_tier", lambda value: classify(max_tier=value)),
    ("instructions", lambda value: classify(instructions=value)),
    ("labels", lambda value: Classify("x", ["bug", value])),
    ("labels", lambda value: Classify("x", {"bug": None, "billing": value})),
    ("examples", lambda value: classify(examples=[{"input": value, "output": "bug"}])),
    ("tags", lambda value: classify(tags={"team": value})),
    ("tags", lambda value: classify(tags={value: "support"})),
    ("require", lambda value: classify(require={"region": value})),
    ("key", lambda value: classify(key=value)),
]


@pytest.mark.parametrize(("field", "make"), TEXTS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a\x00b", r"holds a NUL character (\x00): remove it"),
        (" \n", "is empty: give some text, or leave the task out"),
        (b"bytes", "must be text, not bytes"),
    ],
)
def test_every_text_is_one_that_can_be_stored(field: str, make: Any, value: Any, reason: str) -> None:
    assert refusal(make, value) == (field, reason)


@pytest.mark.parametrize(("field", "make"), TEXTS)
def test_a_lone_surrogate_is_refused_wherever_it_stands(field: str, make: Any) -> None:
    reason = "holds a lone surrogate at character 2: no valid Unicode text; decode the source as UTF-8"
    assert refusal(make, "ab\ud800") == (field, reason)


def test_sizes_are_counted_in_bytes() -> None:
    assert classify("x" * MAX_INPUT_BYTES)
    reason = "is 1,000,002 bytes; the limit is 1,000,000: split or shorten it"
    assert refusal(classify, "é" * (MAX_INPUT_BYTES // 2 + 1)) == ("text", reason)


def test_instructions_have_a_limit_of_their_own() -> None:
    field, reason = refusal(classify, instructions="x" * 100_001)
    assert (field, reason) == ("instructions", "is 100,001 bytes; the limit is 100,000: split or shorten it")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_every_other_text_is_kept_as_it_is(text: str) -> None:
    if text.strip():
        assert checks.text(text, "text") == text


# Keys.


@pytest.mark.parametrize(("given_key", "kept"), [(None, None), ("a", "a"), (7, "7"), ("x" * 200, "x" * 200)])
def test_keys_are_text_or_whole_numbers(given_key: object, kept: str | None) -> None:
    assert classify(key=given_key).key == kept


@pytest.mark.parametrize(
    ("given_key", "reason"),
    [
        (1.5, "must be text, not float"),
        (True, "must be text, not bool"),
        (UUID(int=0), "must be text, not UUID"),
        ("x" * 201, "is 201 characters; the limit is 200"),
    ],
)
def test_other_keys_are_refused(given_key: object, reason: str) -> None:
    assert refusal(classify, key=given_key) == ("key", reason)


# Passages.


@pytest.mark.parametrize(
    "passages",
    [
        {"a": "one", "b": "two"},
        [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}],
        ({"id": id_, "text": text} for id_, text in [("a", "one"), ("b", "two")]),
    ],
    ids=["mapping", "list", "generator"],
)
def test_passages_are_a_mapping_or_any_iterable(passages: Any) -> None:
    assert answer(passages).input_json == (
        '{"question":"How long?","passages":[{"id":"a","text":"one"},{"id":"b","text":"two"}]}'
    )


@pytest.mark.parametrize(
    ("passages", "reason"),
    [
        (None, 'must be a mapping of id to text, or a list of {"id": …, "text": …}'),
        (5, 'must be a mapping of id to text, or a list of {"id": …, "text": …}'),
        ("some text", 'each must be {"id": …, "text": …}'),
        ([["a", "one"]], 'each must be {"id": …, "text": …}'),
        ([{"id": "a", "txt": "one"}], 'each must be {"id": …, "text": …}'),
        ([{"id": ["a"], "text": "one"}], "must be text, not list"),
        ([{"id": "a", "text": None}], "must be text, not NoneType"),
        ({1: "one"}, "must be text, not int"),
        ([{"id": "a", "text": "one"}, {"id": "a", "text": "two"}], "two passages have the same id"),
        ([], "0 passages; give 1 to 200"),
        ({str(n): "one" for n in range(201)}, "201 passages; give 1 to 200"),
        ({"x" * 201: "one"}, "a passage's id is longer than 200 characters"),
    ],
)
def test_other_passages_are_refused(passages: Any, reason: str) -> None:
    assert refusal(answer, passages) == ("passages", reason)
    assert refusal(Answer.spec("faq"), "How long?", passages) == ("passages", reason)


def test_passages_together_are_counted_in_bytes() -> None:
    half = "é" * (MAX_INPUT_BYTES // 4)
    assert answer({"a": half, "b": half})
    reason = "are more than 1,000,000 bytes together: give fewer"
    assert refusal(answer, {"a": half, "b": half, "c": "x"}) == ("passages", reason)


# Options.


def test_an_unknown_field_is_refused_with_what_was_probably_meant() -> None:
    assert refusal(classify, urgancy="relaxed") == ("urgancy", "there is no such field (did you mean 'urgency'?)")
    assert refusal(Classify.spec, "triage", LABELS, zzz=1) == ("zzz", "there is no such field")
    assert refusal(Classify.spec("triage", LABELS), "x", tagz={}) == (
        "tagz",
        "there is no such field (did you mean 'tags'?)",
    )


def test_a_file_s_unknown_field_lists_those_there_are() -> None:
    checks.known_fields(["text"], ["text", "labels"])
    reason = "there is no such field (did you mean 'labels'?); the fields are labels, text"
    assert refusal(checks.known_fields, ["label"], ["text", "labels"]) == ("label", reason)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stakes": "hihg"}, "'hihg' is not one of low, normal, high (did you mean 'high'?)"),
        ({"stakes": ["low"]}, "['low'] is not one of low, normal, high (did you mean 'low'?)"),
        ({"urgency": None}, "None is not one of interactive, standard, relaxed"),
        ({"priority": 10}, "must be a whole number from 0 (last) to 9 (first)"),
        ({"priority": -1}, "must be a whole number from 0 (last) to 9 (first)"),
        ({"priority": True}, "must be a whole number from 0 (last) to 9 (first)"),
        ({"priority": "5"}, "must be a whole number from 0 (last) to 9 (first)"),
        ({"deadline": timedelta(0)}, "must be a span of time after submission"),
        ({"cache": 1}, "must be True, False, or a timedelta: how old an answer may be"),
        ({"cache": "7d"}, "must be True, False, or a timedelta: how old an answer may be"),
        ({"cache": None}, "must be True, False, or a timedelta: how old an answer may be"),
        ({"cache": timedelta(0)}, "must be a span above zero and of at most 3,650 days"),
        ({"cache": timedelta(days=3_651)}, "must be a span above zero and of at most 3,650 days"),
        ({"deadline": timedelta(seconds=-1)}, "must be a span of time after submission"),
        ({"deadline": 60}, "must be a datetime with its zone, or a timedelta from submission"),
        ({"deadline": date(2030, 1, 1)}, "must be a datetime with its zone, or a timedelta from submission"),
        (
            {"deadline": datetime(2030, 1, 1)},
            "has no time zone: give datetime.now(UTC) + …, or a timedelta",
        ),
        ({"tags": ["a"]}, "must be a mapping of text to text, not list"),
        ({"tags": {"a": 1}}, "must be text, not int"),
        ({"tags": {"a": "x" * 201}}, "an entry is longer than 200 characters"),
        ({"tags": {str(n): "x" for n in range(17)}}, "has 17 entries; the limit is 16"),
        ({"require": None}, "must be a mapping of text to text, not NoneType"),
        ({"max_cost": None}, "must be an amount in USD such as '0.05', not NoneType"),
        ({"max_cost": True}, "must be an amount in USD such as '0.05', not bool"),
        ({"max_cost": "five"}, "is no amount in USD: write it as '0.05'"),
        ({"max_cost": 0}, "must be more than 0: leave it out where there is no cap"),
        ({"max_cost": "-1"}, "must be more than 0: leave it out where there is no cap"),
        ({"max_cost": float("nan")}, "must be a finite amount in USD: leave it out where there is no cap"),
        ({"max_cost": "inf"}, "must be a finite amount in USD: leave it out where there is no cap"),
        ({"max_cost": "0.0000000001"}, "has more than nine decimals: 0.000000001 USD is the smallest unit"),
        ({"max_cost": 10**12}, "must be at most 1,000,000,000 USD"),
        (
            {"tier": "small", "max_tier": "large"},
            "pins the tier, so min_tier and max_tier have no meaning: give one or the other",
        ),
        ({"max_output_tokens": 0}, "must be a whole number from 1 to 128,000"),
        ({"max_output_tokens": 128_001}, "must be a whole number from 1 to 128,000"),
        ({"max_output_tokens": 2.0}, "must be a whole number from 1 to 128,000"),
        ({"max_output_tokens": True}, "must be a whole number from 1 to 128,000"),
    ],
)
def test_options_say_what_they_take(options: dict[str, Any], reason: str) -> None:
    assert refusal(classify, **options) == (next(iter(options)), reason)
    assert refusal(Classify.spec, "triage", LABELS, **options) == (next(iter(options)), reason)


@pytest.mark.parametrize(
    "options",
    [
        {"stakes": "low", "urgency": "interactive", "priority": 0},
        {"deadline": timedelta(seconds=1)},
        {"cache": True},
        {"cache": False},
        {"cache": timedelta(days=7)},
        {"deadline": datetime(2030, 1, 1, tzinfo=UTC)},
        {"tags": MappingProxyType({"team": "support"}), "require": {"region": "eu"}},
        {"min_tier": "small", "max_tier": "large"},
        {"tier": "small"},
    ],
)
def test_what_they_take_is_kept(options: dict[str, Any]) -> None:
    assert classify(**options).options == options


def test_a_task_s_options_stand_above_its_specs() -> None:
    spec = Classify.spec("triage", LABELS, urgency="relaxed", stakes="low")
    assert spec("It crashes.", urgency="interactive").options == {"urgency": "interactive", "stakes": "low"}
    assert spec("It crashes.").options == spec.options


def test_a_pin_does_not_go_with_its_specs_bounds() -> None:
    assert refusal(Classify.spec("triage", LABELS, min_tier="medium"), "x", tier="small")[0] == "tier"


# What a task is.


@pytest.mark.parametrize(
    ("task", "type_", "input_json", "output_type"),
    [
        (classify("Größe"), "classify", '{"text":"Größe"}', None),
        (Extract("No. 7", Invoice), "extract", '{"text":"No. 7"}', Invoice),
        (Generate("A haiku."), "generate", '{"prompt":"A haiku."}', None),
        (
            Answer("Why?", PASSAGES),
            "answer",
            '{"question":"Why?","passages":[{"id":"a","text":"Refunds take five days."}]}',
            AnswerOutput,
        ),
    ],
)
def test_a_task_knows_its_type_input_and_output(task: Any, type_: str, input_json: str, output_type: Any) -> None:
    assert (task.type, task.input_json, task.output_type) == (type_, input_json, output_type)
    assert task.content.name == type_


@pytest.mark.parametrize(
    "task",
    [
        Classify(SECRET, LABELS, key="k"),
        Extract(SECRET, Invoice, key="k"),
        Answer(SECRET, {"a": SECRET}, key="k"),
        Generate(SECRET, key="k"),
        Generate.spec("generate")(SECRET, key="k"),
    ],
)
def test_a_repr_never_shows_the_input(task: Task[Any]) -> None:
    assert SECRET not in f"{task!r}{task!s}{task}{[task]}"
    assert repr(task) == f"<{task.type} task {task.type!r} key='k'>"


@pytest.mark.parametrize("text", [SECRET + "\x00", SECRET + "\ud800", SECRET.encode(), SECRET * 50_000])
def test_a_refusal_never_shows_the_input(text: Any) -> None:
    for make in (classify, Generate, lambda value: Answer(value, PASSAGES), lambda value: answer({"a": value})):
        assert SECRET not in "".join(refusal(make, text)[1:])


def test_a_refusal_carries_its_place_in_the_batch() -> None:
    error = InvalidTask("is empty", field="text").at(3)
    assert (error.position, error.field, str(error)) == (3, "text", "task 3, field 'text': is empty")


def test_members_of_an_enum_are_labels_by_their_text() -> None:
    class Kind(enum.StrEnum):
        BUG = "bug"
        BILLING = "billing"

    labelled = Classify("x", list(Kind), examples=[{"input": "y", "output": Kind.BUG}])
    plain = Classify("x", LABELS, examples=[{"input": "y", "output": "bug"}])
    assert labelled.content.id == plain.content.id
    assert refusal(Classify, "x", [Kind.BUG, "bug"]) == ("labels", "label 'bug' is given twice")


def test_what_is_constant_is_checked_once_in_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Extract.spec("invoice", Invoice)
    monkeypatch.setattr(tasks, "check_schema", None)
    assert spec("No. 7").content is spec.content
