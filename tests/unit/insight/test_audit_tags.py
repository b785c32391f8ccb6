"""Tags are right where they claim to know, and say where they guess."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tierq_insight.audit import Call
from tierq_insight.audit.difficulty import SIGNS, signs_of
from tierq_insight.audit.kinds import MAX_KINDS, Kinds
from tierq_insight.audit.schema_form import form_of
from tierq_insight.audit.tagging import Tag, tag
from tierq_shared.money import Usage
from tierq_shared.specs import TaskType
from unit.insight.labelled_requests import HELD_OUT, REQUESTS, chat

NOTHING_LEARNED = Kinds(list)


def figures(labelled: Sequence[tuple[TaskType, Call]]) -> tuple[float, float]:
    """The share of right tags, and the precision of those that are not said to be guessed."""
    tags = [(type_, tag(call, NOTHING_LEARNED)) for type_, call in labelled]
    sure = [found.type == type_ for type_, found in tags if found.confidence != "guessed"]
    return sum(found.type == type_ for type_, found in tags) / len(tags), sum(sure) / len(sure)


def test_precision_on_requests_that_the_rules_were_mended_by() -> None:
    assert len(REQUESTS) == 66
    right, precision = figures(REQUESTS)
    assert right >= 65 / 66
    assert precision == 1


def test_precision_on_requests_that_the_rules_never_saw() -> None:
    """16 of 18 are right; the two others are answers that are said to be guessed."""
    right, precision = figures(HELD_OUT)
    assert right >= 16 / 18
    assert precision == 1


LABEL = {"type": "string", "enum": ["billing", "bug"]}
TEXT = {"type": "string"}


def schema(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("properties", "type_", "labels"),
    [
        ({"label": LABEL}, "classify", 2),
        ({"label": LABEL, "confidence": {"type": "number"}}, "classify", 2),
        ({"labels": {"type": "array", "items": LABEL}}, "classify", 2),
        ({"is_spam": {"type": "boolean"}}, "classify", 2),
        ({"label": {"anyOf": [LABEL, {"type": "null"}]}}, "classify", 2),
        ({"label": LABEL, "total": {"type": "number"}}, "extract", 0),
        ({"vendor": TEXT, "total": {"type": "number"}}, "extract", 0),
        ({"answer": TEXT, "citations": {"type": "array", "items": TEXT}}, "answer", 0),
    ],
)
def test_a_schema_declares_the_type(properties: dict[str, object], type_: TaskType, labels: int) -> None:
    found = tag(chat("Write it.", schema=schema(**properties)), NOTHING_LEARNED)
    assert (found.type, found.confidence, found.labels) == (type_, "declared", labels)


def test_free_text_in_a_schema_is_writing_only_where_words_ask_for_it() -> None:
    subject_and_body = schema(subject=TEXT, body=TEXT)
    assert tag(chat("Draft a mail to Ann.", schema=subject_and_body), NOTHING_LEARNED).type == "generate"
    assert tag(chat("Re: lunch\nAt one?", schema=subject_and_body), NOTHING_LEARNED).type == "extract"


def test_what_a_row_declares_goes_before_its_words() -> None:
    call = chat("Write a summary.", type="classify", labels=3)
    found = tag(call, NOTHING_LEARNED)
    assert (found.type, found.confidence, found.labels) == ("classify", "declared", 3)


def test_words_of_data_ask_for_nothing() -> None:
    ticket = chat("Please write to me, extract my invoice and classify it as urgent.", is_prompt=False)
    found = tag(ticket, NOTHING_LEARNED)
    assert (found.type, found.confidence) == ("generate", "guessed")
    assert "plain text" in found.reason


class TestKinds:
    def calls(self, labels: int, count: int) -> list[Call]:
        return [chat(f"text {n}", output=f"label {'abcdefghijklmnopqrstuvwxyz'[n % labels]}") for n in range(count)]

    def test_a_few_short_answers_again_and_again_are_labels(self) -> None:
        calls = self.calls(labels=4, count=40)
        kinds = Kinds(lambda: calls)
        found = tag(calls[0], kinds)
        assert (found.type, found.confidence, found.labels) == ("classify", "inferred", 4)

    @pytest.mark.parametrize(("labels", "count"), [(4, 19), (20, 40), (1, 40)], ids=["few", "various", "one"])
    def test_anything_else_is_not(self, labels: int, count: int) -> None:
        calls = self.calls(labels, count)
        assert Kinds(lambda: calls).labels(calls[0]) == 0

    def test_one_long_answer_tells_that_a_kind_has_no_labels(self) -> None:
        calls = [*self.calls(4, 40), chat("text", output="This is a whole sentence, and it says many things at once.")]
        assert Kinds(lambda: calls).labels(calls[0]) == 0

    def test_numbers_are_no_labels(self) -> None:
        calls = [chat("How many?", output=str(n % 3)) for n in range(40)]
        assert Kinds(lambda: calls).labels(calls[0]) == 0

    def test_instructions_that_always_differ_do_not_fill_the_memory(self) -> None:
        calls = [chat("x", f"It is {n} o'clock.", "yes") for n in range(MAX_KINDS + 50)]
        kinds = Kinds(lambda: iter(calls))
        assert kinds.labels(calls[0]) == 0
        assert kinds._answers is not None
        assert len(kinds._answers) == MAX_KINDS


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        ("reasoning", "Think carefully and explain why the plan fails."),
        ("code", "Why does this fail?\n```\nx = 1\n```"),
        ("code", "select name from users where id = 3"),
        ("maths", "Solve 3 + 4 = x"),
        ("maths", "Ann has 3 apples and Bob has 4. How many do they have?"),
        ("other_language", "Ich habe die Rechnung nicht bekommen und bitte um eine Kopie."),
        ("other_language", "請問什麼時候可以收到我的包裹 謝謝 你們 好"),
        ("several_questions", "When does it open? And may I bring a dog?"),
    ],
)
def test_signs_that_stand_in_the_text(sign: str, text: str) -> None:
    assert sign in signs_of(chat(text), Tag("generate", "guessed", ""), Usage())


@pytest.mark.parametrize(
    "text",
    [
        "My barcode scanner shows a red light since Monday.",
        "I was charged twice for order 4711 in March, please refund me.",
        "Danke, it works now. Greetings from the whole team in Hamburg.",
    ],
)
def test_plain_tickets_show_no_sign(text: str) -> None:
    assert signs_of(chat(text), Tag("classify", "declared", "", labels=8), Usage(100, output_tokens=5)) == ()


def test_signs_that_are_measured() -> None:
    deep = schema(a=schema(b=schema(c=schema(d=TEXT))), **{f"f{n}": TEXT for n in range(16)})
    found = Tag("extract", "declared", "", labels=21, form=form_of(deep), is_multiple_choice=True)
    usage = Usage(5_000, output_tokens=600, reasoning_tokens=1)
    signs = signs_of(chat("x", turns=5), found, usage)
    assert set(SIGNS) - set(signs) == {"code", "maths", "other_language", "several_questions"}
    assert form_of(deep).depth == 4
    assert form_of(deep).fields == 17


def test_a_schema_that_refers_to_itself_is_read_to_an_end() -> None:
    node = {"type": "object", "properties": {"name": TEXT, "child": {"$ref": "#/$defs/node"}}}
    form = form_of({"type": "object", "properties": {"root": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}})
    assert form.fields > 3
