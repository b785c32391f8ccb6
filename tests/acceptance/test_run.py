"""`tierq run` with real processes: its own embedded stack, a simulator, and files in the test's folder."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.command import tierq
from support.embedded import PATIENCE_S, EmbeddedSite, embedded_site
from support.servers import Simulator
from support.waiting import eventually

pytestmark = pytest.mark.timeout(240)

LABELS = ["billing", "bug", "praise"]
CLASSIFY = ("--type", "classify", "--labels", ",".join(LABELS), "--text", "body", "--key", "id")


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[EmbeddedSite]:
    with embedded_site(tmp_path / "app", simulator) as site:
        yield site


def write_tickets(folder: Path, count: int, name: str = "tickets.csv") -> list[str]:
    """A file of tickets; their keys."""
    keys = [f"T{number}" for number in range(count)]
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows([key, f"ticket {key}:\nmy invoice is wrong"] for key in keys)
    return keys


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def replies(simulator: Simulator) -> int:
    return int(simulator.stats()["replies"])


def assert_told(result: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    told = result.stdout + result.stderr
    assert result.returncode == code, told
    assert "Traceback" not in told
    for text in texts:
        assert text in told


def test_a_file_runs_and_running_it_again_pays_nothing(site: EmbeddedSite) -> None:
    keys = write_tickets(site.folder, 250)

    first = site.tierq("run", "tickets.csv", *CLASSIFY, "--out", "out.jsonl", "--json")

    assert_told(first, 0, "250 of 250 succeeded", "written to out.jsonl")
    rows = read_jsonl(site.folder / "out.jsonl")
    assert [row["key"] for row in rows] == keys
    assert all(row["state"] == "succeeded" and row["output"] in LABELS for row in rows)
    summary = json.loads(first.stdout)
    assert (summary["total"], summary["succeeded"], summary["failed"], summary["unpriced"]) == (250, 250, 0, 0)
    assert summary["by_tier"]["small"]["succeeded"] == 250
    assert summary["by_model"]["gpt-4o-mini"]["attempts"] == 250
    assert sum(int(float(row["cost_usd"]) * 1e9 + 0.5) for row in rows) == int(float(summary["cost_usd"]) * 1e9 + 0.5)
    assert summary["tokens"]["input"] == sum(row["input_tokens"] for row in rows)
    assert replies(site.simulator) == 250

    again = site.tierq("run", "tickets.csv", *CLASSIFY, "--out", "out.csv", "--quiet")

    assert_told(again, 0)
    assert (again.stdout, again.stderr) == ("", "")
    with (site.folder / "out.csv").open(newline="") as file:
        assert [row["output"] for row in csv.DictReader(file)] == [row["output"] for row in rows]
    assert replies(site.simulator) == 250

    fresh = site.tierq("run", "tickets.csv", *CLASSIFY, "--fresh", "--limit", "10", "--out", "-")

    assert_told(fresh, 0)
    assert [json.loads(line)["key"] for line in fresh.stdout.splitlines()] == keys[:10]
    assert replies(site.simulator) == 260


def test_parquet_comes_in_and_goes_out(site: EmbeddedSite) -> None:
    table = pa.table({"number": [10, 11, 12], "body": ["card lost", "app crashes", "well done"], "x": [0.5, 1, 2]})
    parquet.write_table(table, site.folder / "tickets.parquet")

    result = site.tierq(
        "run", "tickets.parquet", "--type", "classify", "--labels", "a,b", "--text", "body", "--key", "number",
        "--multi", "--out", "out.parquet",
    )  # fmt: skip

    assert_told(result, 0, "3 of 3 succeeded")
    out = parquet.read_table(site.folder / "out.parquet").to_pylist()
    assert [row["key"] for row in out] == ["10", "11", "12"]
    assert all(isinstance(json.loads(row["output"]), list) for row in out)


def test_lines_of_every_type_run_and_failures_are_told_by_cause(site: EmbeddedSite) -> None:
    site.simulator.configure({"models": {"gpt-4o-mini": {"context_window": 3_000}}})
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    tasks: list[dict[str, Any]] = [
        {"type": "classify", "text": "the invoice is wrong", "labels": {"billing": "money", "bug": None}, "key": "c"},
        {"type": "extract", "text": "Total: 12.50 EUR", "schema": schema, "key": "e"},
        {"type": "answer", "question": "who?", "passages": ["Ada wrote it."], "key": "a"},
        {"type": "generate", "prompt": "say hello", "key": "g", "max_output_tokens": 50},
        {"type": "generate", "prompt": "say more " * 3_000, "key": "long"},
    ]
    (site.folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))

    result = site.tierq("run", "tasks.jsonl", "--json")

    assert_told(result, 1, "4 of 5 succeeded", "1 × ", "such as long: ", "written to tasks.jsonl.out.jsonl")
    rows = {row["key"]: row for row in read_jsonl(site.folder / "tasks.jsonl.out.jsonl")}
    assert list(rows) == ["c", "e", "a", "g", "long"]
    assert isinstance(rows["e"]["output"], dict)
    assert set(rows["a"]["output"]) == {"answer", "citations", "answerable"}
    assert (rows["long"]["state"], rows["long"]["output"]) == ("failed", None)
    assert rows["long"]["error_code"] in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["succeeded"], summary["failed"]) == (4, 1)
    assert summary["failures"] == {rows["long"]["error_code"]: 1}


def test_bad_rows_stop_all_before_anything_is_spent_or_are_set_aside(site: EmbeddedSite) -> None:
    (site.folder / "tickets.csv").write_text('id,body\n1,"one\nticket"\n2,\n1,other\n4,a,b\n5,fine\n')

    refused = site.tierq("run", "tickets.csv", *CLASSIFY)

    assert_told(refused, 2)
    assert refused.stderr.splitlines() == [
        "tierq: 3 of 5 lines cannot be used; nothing was submitted and nothing spent",
        "  tickets.csv:4: field 'body': is empty: give some text, or leave the task out",
        "  tickets.csv:5: field 'key': '1' is the key of line 2 already, with another input: give it a key of its own",
        "  tickets.csv:6: has 3 fields, the header has 2: quote a field that holds the delimiter",
        "Mend them, or set them aside in tickets.csv.bad.jsonl with --skip-bad.",
    ]
    assert not site.paths.root.exists()
    assert replies(site.simulator) == 0

    skipped = site.tierq("run", "tickets.csv", *CLASSIFY, "--skip-bad", "--out", "out.jsonl")

    assert_told(skipped, 0, "2 of 2 succeeded", "3 bad rows were set aside in tickets.csv.bad.jsonl")
    assert [row["key"] for row in read_jsonl(site.folder / "out.jsonl")] == ["1", "5"]
    assert [row["line"] for row in read_jsonl(site.folder / "tickets.csv.bad.jsonl")] == [4, 5, 6]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_carries_on_and_pays_no_task_twice(site: EmbeddedSite, how: signal.Signals) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 400}}})
    keys = write_tickets(site.folder, 1_500)
    command = ("run", "tickets.csv", *CLASSIFY, "--out", "out.jsonl")

    running = site.hold(*command)
    eventually(lambda: replies(site.simulator) >= 150, PATIENCE_S)
    running.send_signal(how)

    code = running.wait(PATIENCE_S)
    told = site.output(running)
    assert "Traceback" not in told
    if how == signal.SIGINT:
        assert code == 130, told
        assert "The same command carries on, and pays nothing twice" in told
    assert not (site.folder / "out.jsonl").exists()
    assert not list(site.folder.glob(".*.part"))
    paid = replies(site.simulator)
    assert paid < 1_500

    site.simulator.configure({})
    carried_on = site.tierq(*command)

    assert_told(carried_on, 0, "carrying on with batch", "1,500 of 1,500 succeeded")
    assert [row["key"] for row in read_jsonl(site.folder / "out.jsonl")] == keys
    served = site.simulator.served()
    assert set(served.values()) == {1}
    # Every task was sent once: what was under way when the command was stopped was finished and kept.
    assert len(served) == 1_500


def test_a_key_that_is_missing_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    write_tickets(tmp_path, 3)
    (tmp_path / "tierq.toml").write_text(
        '[tiers.small]\nchain = ["mini"]\n[deployments.mini]\nprovider = "openai"\nmodel = "gpt-4o-mini"\n'
        'key_env = "OUR_OWN_KEY"\n'
    )
    result = tierq(tmp_path, "run", "tickets.csv", *CLASSIFY)
    assert_told(result, 2, "OUR_OWN_KEY is not set, and deployment mini needs it")
    assert not (tmp_path / ".tierq").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (CLASSIFY, "there is no tierq.toml here or above: `tierq init` writes one"),
        (("--type", "clasify"), "'clasify' is not one of"),
        ((*CLASSIFY[:4], "--text", "bdy"), "there is no column 'bdy' (did you mean 'body'?)"),
        ((*CLASSIFY, "--out", "missing/out.jsonl"), "there is no folder missing: make it first"),
        ((*CLASSIFY, "--out", "-", "--json"), "--json and --out - would both write to stdout"),
    ],
)
def test_a_command_that_cannot_work_says_why(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    write_tickets(tmp_path, 3)
    assert_told(tierq(tmp_path, "run", "tickets.csv", *arguments), 2, told)
