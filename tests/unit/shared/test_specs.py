"""Specs: names, labels, examples, and the hash that stands for all of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_shared.errors import InvalidTask
from tierq_shared.specs import SpecBody
from tierq_shared.tasks import Answer, Classify, Extract, Generate

INVOICE = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


def refused(field: str, reason: str) -> Any:
    return pytest.raises(InvalidTask, match=rf"(?s)^field '{field}': .*{reason}")


def content(**options: Any) -> SpecBody:
    return Classify.spec("triage", ["bug", "billing"], **options).content


@pytest.mark.parametrize("name", ["a", "triage-2.eu_west", "größe", "x" * 100])
def test_names_are_letters_digits_and_three_signs(name: str) -> None:
    assert Generate.spec(name).content.name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 101, "-", "\ud800", None, 5, ["a"]])
def test_other_names_are_refused(name: Any) -> None:
    with refused("name", "must be 1 to 100 letters, digits"):
        Generate.spec(name)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([["a"]], "must be text, not list"),
        ([["a"], "b"], "must be text, not list"),
        (["a", 1], "must be text, not int"),
        ({1: "one", "b": None}, "must be text, not int"),
        ({"a": 1, "b": None}, "must be text, not int"),
        ("ab", "must be a list of labels or a mapping"),
        (b"ab", "must be a list of labels or a mapping"),
        ({"a", "b"}, "must be a list of labels or a mapping"),
        (None, "must be a list of labels or a mapping"),
        (["a", "b", "a"], "label 'a' is given twice"),
        (["a"], "1 labels; give 2 to 500"),
        ([], "0 labels; give 2 to 500"),
        ([str(n) for n in range(501)], "501 labels; give 2 to 500"),
        (["a", "x" * 201], "label 'x{40}'… is longer than 200 characters"),
        (["a", ""], "is empty"),
    ],
)
def test_labels_say_what_they_take(labels: Any, reason: str) -> None:
    with refused("labels", reason):
        Classify("x", labels)
    with refused("labels", reason):
        Classify.spec("triage", labels)


def test_labels_are_a_list_or_a_mapping_to_descriptions() -> None:
    assert Classify("x", ("bug", "billing")).content.labels == {"bug": None, "billing": None}
    described = {"bug": "It does not work.", "billing": None}
    assert Classify("x", described).content.labels == described


@pytest.mark.parametrize("multi", ["yes", 1, None, object()])
def test_multi_is_true_or_false(multi: Any) -> None:
    with refused("multi", f"must be True or False, not {type(multi).__name__}"):
        Classify("x", ["a", "b"], multi=multi)


SPECS: dict[str, Any] = {
    "classify": lambda examples: Classify.spec("s", ["bug", "billing"], examples=examples),
    "multi": lambda examples: Classify.spec("s", ["bug", "billing"], multi=True, examples=examples),
    "extract": lambda examples: Extract.spec("s", INVOICE, examples=examples),
    "answer": lambda examples: Answer.spec("s", examples=examples),
    "generate": lambda examples: Generate.spec("s", examples=examples),
}
FITTING: dict[str, Any] = {
    "classify": "bug",
    "multi": ["bug"],
    "extract": {"number": "7"},
    "answer": {"answer": "Five days.", "citations": ["a"], "answerable": True},
    "generate": "A haiku.",
}


@pytest.mark.parametrize("kind", SPECS)
def test_an_example_that_fits_is_taken(kind: str) -> None:
    spec = SPECS[kind]([{"input": "x", "output": FITTING[kind]}])
    assert spec.content.examples == ({"input": "x", "output": FITTING[kind]},)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(
    "output",
    [object(), "\ud800", ["\ud800"], {"number": "\ud800"}, {"number": object()}, {1: 2}, 2**70, {"a", "b"}, b"x"],
    ids=["object", "surrogate", "in-list", "in-dict", "object-in-dict", "key", "integer", "set", "bytes"],
)
def test_an_output_that_is_no_json_is_refused(kind: str, output: Any) -> None:
    with refused("examples", "example 1: its output cannot be written as JSON"):
        SPECS[kind]([{"input": "x", "output": FITTING[kind]}, {"input": "x", "output": output}])


@pytest.mark.parametrize("kind", ["classify", "multi", "extract", "answer"])
@pytest.mark.parametrize("output", ["spam", ["spam"], None, float("nan"), 5, {"label": "bug"}])
def test_an_output_that_would_be_refused_of_a_model_is_refused_here(kind: str, output: Any) -> None:
    with refused("examples", "example 0: its output does not fit: "):
        SPECS[kind]([{"input": "x", "output": output}])


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        (None, "must be a list of"),
        ("text", "must be a list of"),
        ({"input": "x", "output": "bug"}, "must be a list of"),
        ([5], "example 0 must be"),
        ([{"input": "x"}], "example 0 must be"),
        ([{1: 2}], "example 0 must be"),
        ([{"input": "x", "output": "bug", "more": 1}], "example 0 must be"),
        ([{"input": ["x"], "output": "bug"}], "must be text, not list"),
        ([{"input": "x", "output": "bug"}] * 51, "51 examples; the limit is 50"),
    ],
)
def test_examples_say_what_they_take(examples: Any, reason: str) -> None:
    with refused("examples", reason):
        content(examples=examples)


def test_a_free_text_example_is_a_text() -> None:
    for output, reason in ((5, "must be text, not int"), ("", "is empty"), ("a\x00", "holds a NUL character")):
        with refused("examples", reason):
            SPECS["generate"]([{"input": "x", "output": output}])


def test_an_example_is_kept_as_it_was_checked() -> None:
    output = {"number": "7"}
    spec = Extract.spec("invoice", INVOICE, examples=[{"input": "x", "output": output}]).content
    output["number"] = "8"
    assert spec.examples[0]["output"] == {"number": "7"}
    day = dt.date(2030, 1, 2)
    assert Extract.spec("s", INVOICE, examples=[{"input": "x", "output": {"number": day}}]).content.examples[0] == {
        "input": "x",
        "output": {"number": "2030-01-02"},
    }


# The hash.


def test_an_id_is_128_bits_of_the_content() -> None:
    assert content().id == content().id
    assert len(content().id) == 32
    assert int(content().id, 16) >= 0


def test_every_part_of_the_content_changes_the_id() -> None:
    plain = Classify.spec("triage", ["bug", "billing"]).content
    changes: dict[str, Any] = {
        "type": "extract",
        "name": "other",
        "instructions": "Be strict.",
        "labels": {"billing": None, "bug": None},
        "multi": True,
        "schema": INVOICE,
        "examples": ({"input": "x", "output": "bug"},),
        "max_output_tokens": 9,
        "prompt_version": 99,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(SpecBody)}
    ids = {dataclasses.replace(plain, **{name: value}).id for name, value in changes.items()}
    assert len(ids | {plain.id}) == len(changes) + 1


def test_a_task_s_own_options_do_not_change_the_id() -> None:
    assert content(urgency="relaxed", tags={"a": "b"}).id == content().id


@given(
    st.dictionaries(st.text("abcdé ", min_size=1).filter(str.strip), st.none() | st.just("It is."), min_size=2),
    st.none() | st.just("Be strict."),
)
def test_a_spec_comes_back_from_json_as_it_was(labels: dict[str, str | None], instructions: str | None) -> None:
    spec = Classify.spec("s", labels, instructions=instructions).content
    back = SpecBody.from_json(spec.json)
    assert (back, back.id) == (spec, spec.id)
    assert list(back.labels or ()) == list(labels)


def test_a_spec_s_repr_is_short() -> None:
    spec = Classify.spec("triage", ["bug", "billing"], instructions="Be strict.")
    assert repr(spec) == f"<classify spec 'triage' {spec.content.id[:8]}>"
