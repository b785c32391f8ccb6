"""The example data is complete, unambiguous and true to its own schema."""

import csv
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tierq_insight.evidence import bucket

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
LABELS = {"billing", "bug", "cancellation", "feature_request", "how_to", "login", "praise", "shipping"}


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def _tickets() -> list[dict[str, str]]:
    with (DATA / "tickets.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((DATA / "invoice.schema.json").read_text(encoding="utf-8"))
    return schema


def test_files_are_utf8_with_unix_line_ends() -> None:
    for path in DATA.iterdir():
        raw = path.read_bytes()
        assert b"\r" not in raw, path.name
        assert raw.endswith(b"\n"), path.name
        raw.decode("utf-8")


def test_tickets_count_columns_and_labels() -> None:
    tickets = _tickets()
    assert len(tickets) == 260
    assert list(tickets[0]) == ["id", "channel", "subject", "body", "label"]
    counts = Counter(ticket["label"] for ticket in tickets)
    assert set(counts) == LABELS
    assert min(counts.values()) >= 25
    descriptions = json.loads((DATA / "tickets.labels.json").read_text(encoding="utf-8"))
    assert set(descriptions) == LABELS
    assert all(descriptions.values())


def test_tickets_are_unique_and_of_the_stated_length() -> None:
    tickets = _tickets()
    assert len({ticket["id"] for ticket in tickets}) == 260
    assert len({" ".join(ticket["body"].lower().split()) for ticket in tickets}) == 260
    assert all(8 <= len(ticket["body"].split()) <= 180 for ticket in tickets)


@pytest.mark.parametrize(
    ("name", "count"), [("invoices.jsonl", 40), ("questions.jsonl", 30), ("briefs.jsonl", 20), ("requests.jsonl", 120)]
)
def test_line_files_have_their_count_and_unique_ids(name: str, count: int) -> None:
    lines = _lines(name)
    assert len(lines) == count
    assert len({line["id"] for line in lines}) == count


def test_invoices_are_valid_by_their_schema() -> None:
    schema = _schema()
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for invoice in _lines("invoices.jsonl"):
        assert set(invoice) == {"id", "kind", "text", "expected"}
        assert invoice["kind"] in {"invoice", "email", "receipt"}
        validator.validate(invoice["expected"])
        if invoice["expected"]["issue_date"] is not None:
            date.fromisoformat(invoice["expected"]["issue_date"])


def test_invoices_expect_what_their_text_says() -> None:
    for invoice in _lines("invoices.jsonl"):
        text = " ".join(invoice["text"].split()).lower()
        expected = invoice["expected"]
        assert expected["vendor"].lower() in text, invoice["id"]
        assert expected["invoice_number"] is None or expected["invoice_number"].lower() in text, invoice["id"]
        assert expected["line_items"], invoice["id"]
        for item in expected["line_items"]:
            assert item["description"].lower() in text, invoice["id"]


def test_questions_cite_their_own_passages() -> None:
    questions = _lines("questions.jsonl")
    for question in questions:
        passages = [passage["id"] for passage in question["passages"]]
        assert 3 <= len(passages) <= 5
        assert len(set(passages)) == len(passages)
        expected = question["expected"]
        assert set(expected["citations"]) <= set(passages)
        assert expected["answerable"] is bool(expected["citations"]) is (expected["answer"] is not None)
    assert len({question["question"] for question in questions}) == 30
    assert sum(not question["expected"]["answerable"] for question in questions) == 6


def test_ticket_samples_come_in_two_sizes_and_begin_with_their_ticket() -> None:
    tickets = {ticket["id"]: ticket for ticket in _tickets()}
    samples = _lines("ticket_samples.jsonl")
    assert len({sample["key"] for sample in samples}) == len(samples) == 200
    assert Counter(bucket(len(sample["text"].encode()) // 4) for sample in samples) == {250: 120, 1_000: 80}
    for sample in samples:
        ticket = tickets[sample["key"].removesuffix("-thread")]
        assert sample["text"].startswith(ticket["body"].strip())
        assert sample["expected"] == ticket["label"]
    assert set(Counter(sample["expected"] for sample in samples).values()) == {25}


def test_briefs_have_a_limit() -> None:
    briefs = _lines("briefs.jsonl")
    assert len({brief["brief"] for brief in briefs}) == 20
    assert all(isinstance(brief["max_words"], int) and brief["max_words"] > 0 for brief in briefs)


def test_requests_are_as_openai_logs_them() -> None:
    for request in _lines("requests.jsonl"):
        assert set(request) - {"response_format", "tools"} == {"id", "model", "messages", "response"}
        assert all(set(message) == {"role", "content"} for message in request["messages"])
        usage = request["response"]["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
