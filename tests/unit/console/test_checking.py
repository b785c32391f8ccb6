"""The first pass: every kind of bad input is told by its line, or set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.jobs import SETTINGS, job_of
from tierq_console.checking import SHOWN, Checked, check
from tierq_console.file_options import check_options
from tierq_shared.errors import InvalidInput


def checked(path: Path, **options: Any) -> Checked:
    return check(job_of(path, **options), SETTINGS, SETTINGS.make_policy())


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        checked(path, **options)
    return str(caught.value)


def csv_file(folder: Path, *rows: str) -> Path:
    path = folder / "tickets.csv"
    path.write_text("\n".join(["id,body", *rows]) + "\n")
    return path


def set_aside(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name(f"{path.name}.bad.jsonl").read_text().splitlines()]


BAD_ROWS = ("1,fine", '2,"two', 'lines"', "3, ", "4,a,b", "1,again", "1,fine", "7,also fine")


def test_a_good_file_passes(tmp_path: Path) -> None:
    found = checked(csv_file(tmp_path, "1,one", "2,two"), key="id")
    assert (found.good, found.bad) == (2, 0)


def test_bad_rows_are_all_told_with_line_field_and_mend(tmp_path: Path) -> None:
    path = csv_file(tmp_path, *BAD_ROWS)
    assert refusal(path, key="id").splitlines() == [
        "4 of 7 lines cannot be used; nothing was submitted and nothing spent",
        f"  {path}:5: field 'body': is empty: give some text, or leave the task out",
        f"  {path}:6: has 3 fields, the header has 2: quote a field that holds the delimiter",
        f"  {path}:7: field 'key': '1' is the key of line 2 already, with another input: give it a key of its own",
        f"  {path}:8: field 'key': '1' is the key of line 2 already, with the same input: leave one of them out",
        "Mend them, or set them aside in tickets.csv.bad.jsonl with --skip-bad.",
    ]
    assert not (tmp_path / "tickets.csv.bad.jsonl").exists()


def test_of_many_bad_rows_the_first_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    lines = refusal(csv_file(tmp_path, "0,fine", *[f"{n}," for n in range(1, 101)])).splitlines()
    assert len(lines) == SHOWN + 3
    assert lines[0].startswith("100 of 101 lines cannot be used")
    assert lines[-2] == "  … and 80 more"


def test_bad_rows_are_set_aside_and_the_others_make_tasks(tmp_path: Path) -> None:
    path = csv_file(tmp_path, *BAD_ROWS)
    job = job_of(path, key="id", skip_bad=True)
    found = check(job, SETTINGS, SETTINGS.make_policy())
    assert (found.good, found.bad) == (3, 4)
    assert [task.key for task in job.tasks(found.bad_lines)] == ["1", "2", "7"]
    assert [(one["line"], one["field"]) for one in set_aside(path)] == [(5, "body"), (6, None), (7, "key"), (8, "key")]
    assert set_aside(path)[0]["row"] == {"id": "3", "body": " "}
    assert set_aside(path)[1]["row"] == "4,a,b"


def test_what_was_set_aside_before_is_gone_when_the_file_is_mended(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1,", "2,fine")
    checked(path, skip_bad=True)
    assert set_aside(path)
    csv_file(tmp_path, "1,mended", "2,fine")
    checked(path, skip_bad=True)
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_that_are_no_utf_8_are_told_where_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_bytes(b"id,body,note\n1,fine,caf\xe9\n2,caf\xe9,x\n3,nul\x00,x\n")
    lines = refusal(path).splitlines()
    assert lines[1:3] == [
        f"  {path}:3: field 'body': holds byte 0xe9, which is not UTF-8: save the file as UTF-8",
        f"  {path}:4: field 'body': holds a NUL character (\\x00): remove it",
    ]
    checked(path, skip_bad=True)
    assert set_aside(path)[0]["row"] == {"id": "2", "body": "caf\\xe9", "note": "x"}


def test_an_input_without_rows_is_refused(tmp_path: Path) -> None:
    assert "has no rows: there is nothing to run" in refusal(csv_file(tmp_path))


def test_an_input_without_a_good_row_is_refused_also_with_skip_bad(tmp_path: Path) -> None:
    assert "each of its 2 rows is bad" in refusal(csv_file(tmp_path, "1,", "2,"), skip_bad=True)


def test_only_the_first_rows_are_looked_at_where_so_many_are_wanted(tmp_path: Path) -> None:
    job = job_of(csv_file(tmp_path, "1,one", "2,two", "3,"), limit=2)
    assert check(job, SETTINGS, SETTINGS.make_policy()).good == 2
    assert len(list(job.tasks([]))) == 2


def test_lines_of_all_types_are_checked_as_they_would_be_submitted(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    tasks: list[dict[str, Any]] = [
        {"type": "classify", "text": "x", "labels": ["a", "b"], "key": "line 2"},
        {"type": "generate", "prompt": "p"},
        {"type": "generate", "prompt": "p", "tier": "smal"},
        {"type": "generate", "prompt": "p", "min_tier": "large", "max_tier": "small"},
        {"type": "generate", "prompt": "p", "require": {"region": "mars"}},
        {"type": "generate", "prompt": "p", "require": {"regio": "eu"}},
        {"type": "generate", "prompt": "p", "tags": {"n": 1}},
    ]
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks) + "{broken\n")
    text = refusal(path, type=None, labels=None, text=None)
    for expected in (
        ":2: field 'key': 'line 2' is the key of line 1 already",
        ":3: field 'tier': there is no tier 'smal'",
        ":4: field 'min_tier': min_tier 'large' is above max_tier 'small'",
        ":5: field 'require': no deployment that this task may use has region='mars'",
        ":6: field 'require': 'regio' cannot be required (did you mean 'region'?)",
        ":7: field 'tags'",
        ":8: is broken JSON",
    ):
        assert f"{path}{expected}" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tier": "smal"}, "--tier: there is no tier 'smal'; the tiers are small, medium, large"),
        ({"min_tier": "large", "max_tier": "small"}, "--min-tier: min_tier 'large' is above"),
        ({"require": ("region=mars",)}, "--require: no deployment that this task may use has region='mars'"),
        ({"tier": "small", "require": ("region=eu",)}, "--require: no deployment"),
    ],
)
def test_an_option_that_no_task_could_meet_is_refused_once(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    job = job_of(csv_file(tmp_path, "1,one"), **options)
    with pytest.raises(InvalidInput) as caught:
        check_options(job, SETTINGS, SETTINGS.make_policy())
    assert str(caught.value).startswith(reason)
