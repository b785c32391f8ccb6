"""`tierq quote` and what `tierq run` says of its quote, with real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.embedded import EmbeddedSite, embedded_site
from support.servers import Simulator

pytestmark = pytest.mark.timeout(240)

JOB = ("--type", "classify", "--labels", "billing,bug,praise", "--text", "body", "--key", "id")


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[EmbeddedSite]:
    with embedded_site(tmp_path / "app", simulator) as site:
        yield site


def write_tickets(folder: Path, first: int, name: str) -> None:
    rows = [
        f"T{number},ticket {number}: {'my invoice is wrong ' * (number % 7)}" for number in range(first, first + 200)
    ]
    (folder / name).write_text("\n".join(["id,body", *rows]) + "\n")


def test_a_file_is_quoted_run_and_compared(site: EmbeddedSite) -> None:
    write_tickets(site.folder, 0, "first.csv")
    write_tickets(site.folder, 1_000, "second.csv")

    run = site.tierq("run", "first.csv", *JOB, "--quote", "--json")

    assert run.returncode == 0, run.stderr
    assert run.stderr.index("200 tasks: $0.00") < run.stderr.index("200 of 200 succeeded")
    assert "  quoted: $0.00" in run.stderr
    summary = json.loads(run.stdout)
    quote = summary["quote"]
    assert float(quote["cost_usd"]["low"]) < float(summary["cost_usd"]) < float(quote["cost_usd"]["high"])
    assert quote["cost_error"] == pytest.approx(
        float(quote["cost_usd"]["expected"]) / float(summary["cost_usd"]) - 1, abs=1e-3
    )

    learned = site.tierq("quote", "second.csv", *JOB, "--json")

    assert learned.returncode == 0, learned.stderr
    found = json.loads(learned.stdout)
    assert (found["tasks"], found["by_tier"]["small"]["learned_calls"], found["notes"]) == (200, 200, [])

    second = site.tierq("run", "second.csv", *JOB, "--json")

    assert second.returncode == 0, second.stderr
    assert "200 tasks: $" not in second.stderr
    again = json.loads(second.stdout)
    assert again["quote"]["cost_usd"] == found["cost_usd"]
    assert abs(again["quote"]["cost_error"]) < 0.1


def test_a_quote_starts_and_spends_nothing_and_refuses_what_cannot_run(site: EmbeddedSite) -> None:
    write_tickets(site.folder, 0, "good.csv")
    unlearned = site.tierq("quote", "good.csv", *JOB)
    assert unlearned.returncode == 0, unlearned.stderr
    assert unlearned.stdout.startswith("200 tasks: $0.00")
    assert "  small: 200 on mini, $" in unlearned.stdout
    assert "rules of thumb" in unlearned.stdout
    assert "no live worker" not in unlearned.stdout
    assert site.simulator.stats()["replies"] == 0
    assert not site.paths.root.exists()

    (site.folder / "bad.csv").write_text("id,body\n1,\n")
    refused = site.tierq("quote", "bad.csv", *JOB)
    assert refused.returncode == 2
    assert "field 'body': is empty" in refused.stderr
    assert "Traceback" not in refused.stderr
