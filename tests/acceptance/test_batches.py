"""`tierq submit`, `status`, `results`, `cancel` and `export`, over a stack that others keep."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from support.command import tierq
from support.servers import Site
from support.waiting import eventually

pytestmark = pytest.mark.timeout(240)

CLASSIFY = ("--type", "classify", "--labels", "billing,bug", "--text", "body", "--key", "id")


def write_tickets(folder: Path, count: int) -> None:
    rows = "".join(f"T{number},ticket {number} is wrong\n" for number in range(count))
    (folder / "tickets.csv").write_text(f"id,body\n{rows}")


def call(site: Site, *arguments: str, code: int = 0) -> str:
    """What a command says on stdout, when it ends as expected."""
    result = tierq(site.folder, *arguments, TIERQ_CONFIG=str(site.config))
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_from_submission_to_telemetry(site: Site) -> None:
    write_tickets(site.folder, 120)
    submit = ("submit", "tickets.csv", *CLASSIFY, "--tag", "team=support")
    batch = call(site, *submit).strip()
    assert call(site, *submit).strip() == batch

    waiting = json.loads(call(site, "status", batch[:20], "--json"))
    assert (waiting["state"], waiting["total"], waiting["tags"]) == ("running", 120, {"team": "support"})
    assert waiting["by_tier"] == {"small": {"queued": 120}}
    assert waiting["workers"] == {}
    states = {row["state"] for row in lines(call(site, "results", batch))}
    assert states == {"queued"}

    site.start_worker("small")
    rows = lines(call(site, "results", batch, "--wait", "--quiet"))

    assert [row["key"] for row in rows] == [f"T{number}" for number in range(120)]
    assert {row["state"] for row in rows} == {"succeeded"}
    done = json.loads(call(site, "status", batch, "--json", "--watch"))
    assert (done["state"], done["succeeded"]) == ("finished", 120)
    listed = call(site, "status")
    assert batch in listed
    assert "120 of 120" in listed
    assert "succeeded" in call(site, "status", batch)

    records = lines(call(site, "export", "telemetry", "--batch", batch))
    assert {record["attemptId"] for record in records} == set(site.simulator.served())
    first = records[0]
    assert (first["taskType"], first["modelSelected"], first["outcome"]) == ("classify", "gpt-4o-mini", "succeeded")
    assert first["tokens"] == first["inputTokens"] + first["outputTokens"] > 0
    assert float(first["cost"]) > 0
    assert first["latency"] >= 0
    assert first["timestamp"].endswith("+00:00")
    call(site, "export", "telemetry", "--since", "1h", "--out", "telemetry.csv")
    table = list(csv.DictReader(io.StringIO((site.folder / "telemetry.csv").read_text())))
    assert len(table) == 120
    assert table[0]["taskId"] == first["taskId"]
    assert call(site, "export", "telemetry", "--since", "2031-01-01T00:00:00Z") == ""

    # The same job, now run: nothing is left to do but to write its outcomes.
    call(site, "run", "tickets.csv", *CLASSIFY, "--tag", "team=support", "--out", "out.jsonl")
    assert lines((site.folder / "out.jsonl").read_text()) == rows
    assert len(site.simulator.served()) == 120


def test_a_batch_that_is_cancelled_keeps_what_is_done(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 1_500}}})
    write_tickets(site.folder, 4_000)
    site.start_worker("small")
    batch = call(site, "submit", "tickets.csv", *CLASSIFY, "--quiet").strip()
    eventually(lambda: site.simulator.stats()["replies"] > 0)

    assert f"batch {batch} is stopped" in call(site, "cancel", batch)

    rows = lines(call(site, "results", batch, "--wait", "--quiet", code=1))
    states = {row["state"] for row in rows}
    assert (len(rows), states) == (4_000, {"succeeded", "cancelled"})
    assert json.loads(call(site, "status", batch, "--json"))["state"] == "cancelled"
    assert "is over already" in call(site, "cancel", batch)


def test_what_is_not_there_is_said(site: Site, tmp_path: Path) -> None:
    for command in ("status", "results", "failures", "retry", "cancel"):
        call(site, command, "abc", code=2)
    assert "no batches yet" in call(site, "status")
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    write_tickets(nowhere, 2)
    (nowhere / "tierq.toml").write_text(
        '[tiers.small]\nchain = ["m"]\n[deployments.m]\nprovider = "openai"\nmodel = "m"\n'
    )
    submitted = tierq(nowhere, "submit", "tickets.csv", *CLASSIFY)
    assert submitted.returncode == 2
    assert "no embedded stack runs here" in submitted.stderr
    assert tierq(nowhere, "status").returncode == 2
