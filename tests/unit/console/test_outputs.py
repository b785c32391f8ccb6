"""The writers: what a row holds, and that a file has its name only when all of it is there."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tierq_console.outputs import COLUMNS, check_output, row_of, writing
from tierq_shared.errors import InvalidInput
from tierq_shared.money import Usage
from tierq_shared.outcomes import Outcome, TaskError, TaskState
from tierq_shared.tasks import AnswerOutput


def outcome(**changes: Any) -> Outcome[Any]:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    values: dict[str, Any] = {
        "task_id": "t", "batch_id": "b", "position": 0, "key": "k", "type": "classify", "tags": {},
        "state": TaskState.SUCCEEDED, "output": "bug", "confidence": None, "error": None, "tier": "small",
        "deployment": "mini", "model": "gpt-4o-mini", "attempts": 1, "cached": False,
        "usage": Usage(input_tokens=120, output_tokens=7), "cost_nusd": 22_200, "created_at": at, "finished_at": at,
    }  # fmt: skip
    return Outcome(**{**values, **changes})


FAILED = outcome(
    key="f",
    state=TaskState.FAILED,
    output=None,
    error=TaskError("invalid_output", "no label\nof ours", retryable=False),
    cost_nusd=None,
)
OUTCOMES = [
    outcome(),
    outcome(key="l", output=["bug", "ä"]),
    outcome(key="a", output=AnswerOutput(answer="42", citations=["p"], answerable=True)),
    FAILED,
]


def write(path: Path) -> None:
    with writing(path) as writer:
        for one in OUTCOMES:
            writer.write(row_of(one))


def test_jsonl_keeps_values_and_exact_costs(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [tuple(row) for row in rows] == [COLUMNS] * 4
    assert rows[0]["cost_usd"] == "0.0000222"
    assert rows[1]["output"] == ["bug", "ä"]
    assert rows[2]["output"] == {"answer": "42", "citations": ["p"], "answerable": True}
    assert (rows[3]["cost_usd"], rows[3]["error_code"], rows[3]["output"]) == (None, "invalid_output", None)


def test_csv_has_texts_as_they_are_and_json_for_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["output"] for row in rows] == [
        "bug", '["bug","ä"]', '{"answer":"42","citations":["p"],"answerable":true}', "",
    ]  # fmt: skip
    assert rows[3]["error"] == "no label\nof ours"


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(COLUMNS)
    assert str(table.schema.field("input_tokens").type) == "int64"
    assert table["cost_usd"].to_pylist() == ["0.0000222"] * 3 + [None]
    assert table["output"].to_pylist()[1] == '["bug","ä"]'


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_what_was_interrupted_leaves_the_former_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("former")

    def interrupted() -> None:
        with writing(tmp_path / name) as writer:
            writer.write(row_of(OUTCOMES[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "former"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.xlsx", "is written by its suffix"), ("in.jsonl", "is the input itself"), ("missing/out.csv", "no folder")],
)
def test_an_output_that_could_not_be_written_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        check_output(tmp_path / name, tmp_path / "in.jsonl")
