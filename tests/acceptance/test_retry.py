"""Failures and retries, as a user of `tierq run` and of the guide meets them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conftest import SiteMaker
from support.command import tierq
from support.embedded import embedded_site
from support.schemas import at_version
from support.servers import Simulator
from tierq import Classify, Client
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from unit.docs.pages import ROOT, blocks

GUIDE = ROOT / "docs" / "how-to" / "retry-what-failed.md"
CLASSIFY = ("--type", "classify", "--labels", "billing,bug", "--text", "body", "--key", "id")

pytestmark = pytest.mark.timeout(240)


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_run_with_failures_is_retried_and_carried_on(tmp_path: Path, simulator: Simulator) -> None:
    with embedded_site(tmp_path / "app", simulator) as site:
        (site.folder / "tickets.csv").write_text("id,body\nT1,the invoice is wrong\nT2,the app crashes\n")
        simulator.configure({"models": {"*": {"faults": [{"kind": "refused", "rate": 1.0}]}}})
        run = ("run", "tickets.csv", *CLASSIFY)

        first = told(site.tierq(*run), 1)

        assert "0 of 2 succeeded" in first
        hint = next(line for line in first.splitlines() if "tierq retry" in line)
        batch = hint.split("`tierq retry ")[1].split("`")[0]
        assert "2 × refused · would most likely fail again" in told(site.tierq("failures", batch), 0)
        assert "left out: 2 × refused" in told(site.tierq("retry", batch), 0)
        assert "have ended before" in told(site.tierq(*run), 1)

        simulator.configure({"models": {}})
        said = told(site.tierq("retry", batch, "--code", "refused"), 0)
        assert "2 tasks are queued again: 2 × refused" in said
        assert "nothing works here now" in said
        assert "tierq run" in said
        second = told(site.tierq(*run, "--out", "out.jsonl"), 0)

        assert "carrying on with batch" in second
        assert "2 of 2 succeeded" in second
        assert "tierq retry" not in second
        rows = [json.loads(line) for line in (site.folder / "out.jsonl").read_text().splitlines()]
        assert [(row["key"], row["state"], row["attempts"], row["error_code"]) for row in rows] == [
            ("T1", "succeeded", 2, None), ("T2", "succeeded", 2, None),
        ]  # fmt: skip


def test_the_embedded_stack_of_the_release_before_is_migrated(tmp_path: Path, simulator: Simulator) -> None:
    with embedded_site(tmp_path / "app", simulator) as site:
        site.paths.root.mkdir(mode=0o700)
        store = Store(site.paths.urls()["database_url"])
        with at_version(store, "0001"):
            pass
        store.close()
        assert f"a migration to {schema.HEAD} is due" in told(site.tierq("migrate", "--check"), 1)
        assert "run `tierq migrate`" in told(site.tierq("status"), 2)
        (site.folder / "tickets.csv").write_text("id,body\nT1,the invoice is wrong\n")
        assert "1 of 1 succeeded" in told(site.tierq("run", "tickets.csv", *CLASSIFY), 0)
        assert "no migration is due" in told(site.tierq("migrate", "--check"), 0)


def test_the_guides_commands_run(site_on: SiteMaker) -> None:
    """In the order of the page, on a batch that has failed."""
    site = site_on(extra='[worker]\nmax_attempts = 3\nsweep_every = "200ms"')
    site.simulator.outage(kind="overloaded", seconds=None)
    site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many([Classify(text="it crashes", labels=["billing", "bug"], key="T1")])
        batch.wait(60)
        site.simulator.recover()
        lines = [line for block in blocks("sh", [GUIDE]) for line in block.text.splitlines()]
        assert lines
        for line in lines:
            words = line.replace("0198f3a2", batch.id).split()
            assert words[0] == "tierq"
            told(tierq(site.folder, *words[1:], TIERQ_CONFIG=str(site.config)), 0)
        assert batch.progress().succeeded == 1
    (row,) = [json.loads(line) for line in (site.folder / "answers.jsonl").read_text().splitlines()]
    assert (row["state"], row["attempts"]) == ("succeeded", 4)
