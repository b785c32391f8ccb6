"""`tierq evaluate` with a real worker for each tier, and a simulator whose models differ in skill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from support.command import tierq
from support.servers import Site
from support.waiting import eventually
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, evidence, tasks

pytestmark = pytest.mark.timeout(120)

LABELS = ["billing", "bug", "praise"]
COUNT = 120
COMMAND = ("evaluate", "samples.jsonl", "--type", "classify", "--labels", ",".join(LABELS), "--key", "id")
BOTH = ("--deployments", "mini,pro", "--max-cost", "5", "--json")


def write_samples(folder: Path) -> list[dict[str, str]]:
    samples = [{"id": f"S{n}", "text": f"Message number {n}.", "expected": LABELS[n % 3]} for n in range(COUNT)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return samples


def prepare(site: Site) -> None:
    samples = write_samples(site.folder)
    models = {"gpt-4o-mini": {"skill": 0.5}, "gemini-2.5-pro": {"skill": 0.97}}
    site.simulator.configure({"seed": 5, "models": models, "answers": samples})
    site.start_worker("small")


def evaluate(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tierq(site.folder, *COMMAND, *arguments, TIERQ_CONFIG=str(site.config))


def rows(site: Site, statement: Any) -> list[Any]:
    store = Store(site.database_url)
    with store.reading() as connection:
        found = list(connection.execute(statement))
    store.close()
    return found


def test_models_of_different_skill_come_apart_and_no_answer_is_paid_twice(site: Site) -> None:
    prepare(site)
    told = interrupted(site)
    assert "mini: 120 tasks" in told
    assert "The same command carries on" in told
    assert "Traceback" not in told

    told, printed = carried_on(site)
    assert "carrying on with evaluation" in told
    assert "mini: 0 tasks" in told
    result = json.loads(printed)
    weak, strong = result["lines"]
    assert (weak["deployment"], weak["tier"], strong["deployment"], strong["tier"]) == ("mini", "small", "pro", "large")
    assert weak["accuracy"]["upper"] < strong["accuracy"]["lower"]
    assert weak["macro_f1"]["upper"] < strong["macro_f1"]["lower"]
    assert weak["answers"] == strong["answers"] == COUNT
    assert weak["failure_rate"]["value"] == strong["failure_rate"]["value"] == 0
    assert weak["cost_usd_per_1000"]["upper"] < strong["cost_usd_per_1000"]["lower"]
    check_ledger(site, result)
    check_evidence(site, result)

    again = evaluate(site, *BOTH)

    assert "nothing to run" in again.stderr
    assert {**json.loads(again.stdout), "seconds": 0} == {**result, "seconds": 0}
    served = site.simulator.served()
    assert (len(served), max(served.values())) == (2 * COUNT, 1)


def interrupted(site: Site) -> str:
    """Runs the command until the small tier has answered all, with nobody who serves the large one, and stops it."""
    first, log = begin(site, "first")
    eventually(lambda: ended(site) >= COUNT, 60)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130
    return log.read_text()


def carried_on(site: Site) -> tuple[str, str]:
    """Runs the same command to its end; the large tier is served once it has said what is left to do."""
    second, log = begin(site, "second")
    eventually(lambda: "pro: " in log.read_text(), 60)
    site.start_worker("large")
    assert second.wait(100) == 0, log.read_text()
    return log.read_text(), log.with_suffix(".out").read_text()


def begin(site: Site, name: str) -> tuple[subprocess.Popen[bytes], Path]:
    log = site.folder / f"{name}.log"
    env = {**os.environ, "TIERQ_CONFIG": str(site.config)}
    command = [sys.executable, "-m", "tierq_console", *COMMAND, *BOTH]
    with log.open("wb") as said, log.with_suffix(".out").open("wb") as printed:
        return subprocess.Popen(command, cwd=site.folder, env=env, stdout=printed, stderr=said), log


def ended(site: Site) -> int:
    return len(rows(site, select(tasks.c.id).where(tasks.c.state == "succeeded")))


def check_ledger(site: Site, result: dict[str, Any]) -> None:
    """No fail-over, no escalation, and the cost that was told."""
    ledger = rows(site, select(attempts.c.deployment, attempts.c.tier, attempts.c.cost_nusd))
    assert {(row.deployment, row.tier) for row in ledger} == {("mini", "small"), ("pro", "large")}
    assert sum(row.cost_nusd for row in ledger) == round(float(result["cost_usd"]) * 1e9)
    assert {row.urgency for row in rows(site, select(tasks.c.urgency))} == {"relaxed"}


def check_evidence(site: Site, result: dict[str, Any]) -> None:
    """A row a task, paired by sample; what is hard for one is hard for the other."""
    kept = rows(site, select(evidence))
    assert len(kept) == len({row.task_id for row in kept}) == 2 * COUNT
    assert {row.evaluation_id for row in kept} == {result["evaluation_id"]}
    samples = {name: {row.sample for row in kept if row.deployment == name} for name in ("mini", "pro")}
    assert samples["mini"] == samples["pro"]
    right = {name: {row.sample for row in kept if row.deployment == name and row.score == 1} for name in samples}
    assert right["mini"] < right["pro"]
