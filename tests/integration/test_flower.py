"""Flower shows chunks until their last task has ended, and its figures add up to ours."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import SiteMaker
from support.ledger import Ledger
from support.servers import free_port, running
from support.waiting import eventually
from tierq import Classify, Client

PATIENCE_S = 60.0
PASSWORD = "seen by nobody"
COUNT = int(os.environ.get("TIERQ_TEST_FLOWER_TASKS", "2000"))
"""Raised to 100,000 it is an hour's work of a busy installation."""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


def chunks(flower: httpx.Client) -> dict[str, Any]:
    """What Flower knows of chunks, by their ids."""
    found = flower.get("/api/tasks", params={"limit": 5_000})
    return dict(found.raise_for_status().json()) if found.is_success else {}


def counted(shown: dict[str, Any]) -> Counter[str]:
    """How many tasks Flower says ended how, over all chunks that are over."""
    total: Counter[str] = Counter()
    for one in shown.values():
        for count, state in re.findall(r"(\d+) (\w+(?: \w+)?)", one["result"] or ""):
            total[state] += int(count)
    return total


@pytest.mark.timeout(900)
def test_the_figures_of_flower_agree_with_the_ledger(site_on: SiteMaker, tmp_path: Path) -> None:
    site = site_on()
    # One answer in fifty is refused, so that there is something that failed.
    site.simulator.configure({"models": {"*": {"latency_ms": 30, "faults": [{"kind": "refused", "rate": 0.02}]}}})
    port = free_port()
    command = [sys.executable, "-m", "tierq_console", "flower", "--port", str(port)]
    env = {"TIERQ_CONFIG": str(site.config), "TIERQ_FLOWER_PASSWORD": PASSWORD}
    with (
        running(command, tmp_path / "flower.log", env),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("tierq", PASSWORD), timeout=30) as flower,
    ):
        eventually(lambda: _answers(flower), PATIENCE_S)
        site.start_worker("small")
        eventually(lambda: "small" in flower.get("/api/workers", params={"refresh": 1}).text, PATIENCE_S)
        with Client(config=site.config) as client:
            batch = client.submit_many(intent(text=f"My secret invoice {n}", key=n) for n in range(COUNT))
            done = batch.wait(800)
        assert (done.succeeded + done.failed, done.failed > 0) == (COUNT, True)
        shown = eventually(lambda: _all_over(chunks(flower)), PATIENCE_S)
        told = counted(shown)
        assert (told["succeeded"], told["failed"]) == (done.succeeded, done.failed)
        assert {one["state"] for one in shown.values()} == {"SUCCESS"}
        page = flower.get("/tasks").text + str(shown)
        assert "secret" not in page
        titles = {one["args"].split(" · batch ")[0].split(" · ")[0] for one in shown.values()}
        assert titles == {"small"}
        ledger = Ledger(site)
        assert len({row.id for row in ledger.tasks(batch.id)}) == COUNT
        ledger.close()


def _answers(flower: httpx.Client) -> bool:
    try:
        return flower.get("/api/workers").status_code == 200
    except httpx.TransportError:
        return False


def _all_over(shown: dict[str, Any]) -> dict[str, Any] | None:
    is_over = sum(counted(shown)[state] for state in ("succeeded", "failed")) == COUNT
    return shown if is_over and all(one["state"] == "SUCCESS" for one in shown.values()) else None
