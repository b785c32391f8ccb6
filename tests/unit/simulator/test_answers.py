"""The answers are sensible: labels by shared words, values from the text, passages that fit the question."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tierq_simulator.answers import write_answer
from tierq_simulator.reading import input_of
from tierq_simulator.wire.base import Ask

LABELS = ["billing", "technical", "shipping", "other"]
SYSTEM = """Classify the ticket.
- billing: Charges, invoices and refunds.
- technical: Something is broken or shows an error.
- shipping: Where a parcel is, or when it comes.
- other: Anything else.
"""
LABEL = {"type": "object", "properties": {"label": {"enum": LABELS}, "confidence": {"type": "number"}}}
ANSWER = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "citations": {"type": "array", "items": {"type": "string", "enum": ["p1", "p2"]}},
        "answerable": {"type": "boolean"},
    },
}
PASSAGES = (
    '<passage id="p1">The warranty lasts two years. It covers defects.</passage>\n'
    '<passage id="p2">Shipping takes five days. Returns are free.</passage>\n<question>{}</question>'
)
INVOICE = """Acme Widgets GmbH
Invoice number: INV-2024-0042
Date: 12 March 2024, due 2024-04-11
- 2 x Blue widget 19.99
- 1 x Red widget 5.00
VAT: 8.55
Total: €1,053.53
Questions: billing@acme.example, +49 30 1234567
"""


def answer(schema: dict[str, Any], text: str, *, skill: float = 1.0, seed: int = 0, model: str = "m") -> Any:
    ask = Ask(model, SYSTEM, [text], schema, 1, 1)
    return orjson.loads(write_answer(ask, input_of(ask.users), seed, skill))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("<text>I was charged twice, please refund me</text>", "billing"),
        ("The app shows an error whenever I open it", "technical"),
        ("Where is my parcel? Tracking says nothing", "shipping"),
        ("Good morning to you all", "other"),
    ],
)
def test_the_label_is_the_one_the_words_speak_for(text: str, label: str) -> None:
    assert answer(LABEL, text)["label"] == label


def test_several_labels_where_several_fit() -> None:
    schema = {"type": "object", "properties": {"labels": {"type": "array", "items": {"enum": LABELS}}}}
    assert set(answer(schema, "The parcel is lost and you charged me, I want a refund")["labels"]) == {
        "billing",
        "shipping",
    }


def test_skill_is_the_share_of_right_answers_and_repeatable() -> None:
    texts = [f"Where is my parcel number {number}?" for number in range(400)]
    labels = [answer(LABEL, text, skill=0.8)["label"] for text in texts]
    assert 0.74 < labels.count("shipping") / 400 < 0.86
    assert labels == [answer(LABEL, text, skill=0.8)["label"] for text in texts]


def test_more_skill_keeps_what_less_skill_gets_right() -> None:
    texts = [f"Where is my parcel number {number}?" for number in range(100)]
    small = {text for text in texts if answer(LABEL, text, skill=0.6)["label"] == "shipping"}
    large = {text for text in texts if answer(LABEL, text, skill=0.9, model="large")["label"] == "shipping"}
    assert small < large


def test_a_wrong_answer_is_less_sure() -> None:
    right, wrong = (answer(LABEL, "I was charged twice, refund", skill=skill)["confidence"] for skill in (1, 0))
    assert wrong < right


def test_values_are_read_from_the_text() -> None:
    names = {
        "invoice_number": "string",
        "vendor": "string",
        "invoice_date": "string",
        "due_date": "string",
        "total": "number",
        "vat": "number",
        "currency": "string",
        "email": "string",
        "phone": "string",
    }
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in names.items()}}
    assert answer(schema, INVOICE) == {
        "invoice_number": "INV-2024-0042",
        "vendor": "Acme Widgets GmbH",
        "invoice_date": "2024-03-12",
        "due_date": "2024-04-11",
        "total": 1053.53,
        "vat": 8.55,
        "currency": "EUR",
        "email": "billing@acme.example",
        "phone": "+49 30 1234567",
    }


def test_a_list_of_items_is_read_line_by_line() -> None:
    fields = {"description": {"type": "string"}, "quantity": {"type": "integer"}, "unit_price": {"type": "number"}}
    items = {"type": "array", "items": {"type": "object", "properties": fields}}
    assert answer({"type": "object", "properties": {"lines": items}}, INVOICE)["lines"] == [
        {"description": "Blue widget", "quantity": 2, "unit_price": 19.99},
        {"description": "Red widget", "quantity": 1, "unit_price": 5},
    ]


def test_what_the_text_does_not_hold_is_null_where_that_is_allowed() -> None:
    schema = {"type": "object", "properties": {"order_id": {"type": ["string", "null"]}}}
    assert answer(schema, "There is none here") == {"order_id": None}


def test_an_answer_cites_the_passage_it_stands_in() -> None:
    found = answer(ANSWER, PASSAGES.format("How long does the warranty last?"))
    assert found == {"answer": "The warranty lasts two years.", "citations": ["p1"], "answerable": True}


def test_a_question_the_passages_do_not_answer() -> None:
    found = answer(ANSWER, PASSAGES.format("Who is the president of France?"))
    assert (found["citations"], found["answerable"]) == ([], False)


def test_a_wrong_answer_cites_another_passage() -> None:
    found = answer(ANSWER, PASSAGES.format("How long does the warranty last?"), skill=0)
    assert found["citations"] == ["p2"]


def test_text_is_made_of_the_inputs_words() -> None:
    ask = Ask("m", "", ["Our parcel was delayed again."], None, 1, 1)
    assert "parcel" in write_answer(ask, ask.users[0], 0, 1.0)


def test_the_input_is_what_the_last_tags_enclose() -> None:
    users = ["Classify:\n<text>\nI say a < b & <b>more</b>\n</text>\nThank you", "That was not JSON. Answer again."]
    assert input_of(users) == "I say a < b & <b>more</b>"
    assert input_of(["no tags"]) == "no tags"
    assert input_of([]) == ""
