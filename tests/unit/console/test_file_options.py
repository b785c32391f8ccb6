"""The options of `tierq run`: what they make, and what is refused with the option's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.jobs import job_of
from tierq_console.rows import ColumnTasks, LineTasks
from tierq_shared.errors import InvalidInput


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text("id,body\n1,one\n2,two\n")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [("labels.json", '["a b", "c"]'), ("labels.json", '{"a b": "first", "c": null}'), ("labels.txt", "a b\n\nc\n")],
)
def test_labels_come_from_files_too(tickets: Path, name: str, content: str) -> None:
    path = tickets.with_name(name)
    path.write_text(content)
    maker = job_of(tickets, labels=f"@{path}").maker
    assert isinstance(maker, ColumnTasks)
    assert list(maker.spec.content.labels or {}) == ["a b", "c"]


def test_instructions_come_from_a_file_too(tickets: Path) -> None:
    tickets.with_name("say.txt").write_text("Be brief.")
    maker = job_of(tickets, instructions=f"@{tickets.with_name('say.txt')}", name="intent").maker
    assert isinstance(maker, ColumnTasks)
    assert (maker.spec.content.instructions, maker.spec.content.name) == ("Be brief.", "intent")


def test_tags_belong_to_the_batch_and_requirements_to_every_task(tickets: Path) -> None:
    job = job_of(tickets, tag=("team=support",), require=("region=eu", "provider=gemini"), priority=0)
    (task, _) = job.tasks([])
    assert job.tags == {"team": "support"}
    assert task.options == {"require": {"region": "eu", "provider": "gemini"}, "priority": 0}


def test_without_a_type_each_line_is_a_task(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({"type": "generate", "prompt": "p"}))
    assert isinstance(job_of(path, type=None, labels=None, text=None).maker, LineTasks)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type": None, "labels": None, "text": None}, "say what its rows are with --type"),
        ({"labels": None}, "--labels: is missing: a task of type classify needs it"),
        ({"labels": "one"}, "--labels: 1 labels; give 2 to 500"),
        ({"labels": "missing.json"}, "--labels missing.json: cannot be read: No such file"),
        ({"schema": "x.json"}, "--schema means nothing for --type classify"),
        ({"type": "generate"}, "--labels means nothing for --type generate, whose columns are named by --prompt"),
        ({"text": "boddy"}, "did you mean 'body'"),
        ({"key": "idd"}, "name the right one with --key"),
        ({"text": None}, "there is no column 'text'; the columns are id, body: name the right one with --text"),
        ({"tag": ("team",)}, "--tag team: write it as name=value"),
        ({"deadline": "soon"}, "--deadline: 'soon' is neither a span"),
        (
            {"cache": "b.csv"},
            "--cache: 'b.csv' is not a span such as 30m, 2h or 7d; for an answer of any age write --cache after FILE",
        ),
        ({"cache": "0s"}, "--cache: must be a span above zero"),
        ({"tier": "small", "max_tier": "large"}, "--tier: pins the tier"),
        ({"name": "no spaces please"}, "--name: must be 1 to 100 letters"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_option(tickets: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        job_of(tickets, **options)
    assert reason in str(caught.value)


def test_a_broken_schema_is_told_with_its_line(tickets: Path) -> None:
    schema = tickets.with_name("schema.json")
    schema.write_text('{\n "type": ,\n}')
    with pytest.raises(InvalidInput, match=rf"--schema {schema}:2: is broken JSON"):
        job_of(tickets, type="extract", labels=None, schema=str(schema))


class TestKey:
    def test_the_same_job_has_the_same_key(self, tickets: Path) -> None:
        assert job_of(tickets, key="id").key == job_of(tickets, key="id").key

    @pytest.mark.parametrize(
        "options",
        [
            {"labels": "billing,bugs"},
            {"key": "id"},
            {"limit": 1},
            {"tier": "large"},
            {"name": "other"},
            {"cache": "7d"},
        ],
    )
    def test_other_options_make_another_job(self, tickets: Path, options: dict[str, Any]) -> None:
        assert job_of(tickets).key != job_of(tickets, **options).key

    def test_other_content_makes_another_job(self, tickets: Path) -> None:
        before = job_of(tickets).key
        tickets.write_text("id,body\n1,one\n2,three\n")
        assert job_of(tickets).key != before
