"""A real worker's figures are those of SQL, its log is JSON, and its health fails before its lease does."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from chaos.crew import python_path
from chaos.links import Links
from conftest import SiteMaker
from support.ledger import Ledger
from support.metrics import scrape
from support.servers import Site, free_port
from support.waiting import eventually
from tierq import Classify, Client

PATIENCE_S = 40.0
SECRET = "The invoice of Mrs Dalloway"

WATCHED = """
[worker]
lease = "5s"
[metrics]
port = {port}
"""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


class Watched:
    """A site with one worker of the small tier, which serves its figures; its store can be cut off."""

    def __init__(self, site: Site, port: int, stack: ExitStack) -> None:
        self.site, self.port = site, port
        self.store, over_proxy = Links(stack, site).to_store()
        self.worker: subprocess.Popen[bytes] = site.start_worker(
            "small",
            *("--log-format", "json", "--loglevel", "info"),
            module="support.stalling_worker",
            PYTHONPATH=python_path(),
            **over_proxy,
        )
        eventually(lambda: self.health() == 200, PATIENCE_S)

    def health(self) -> int:
        return self.ask().status_code if self.is_up() else 0

    def ask(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5)

    def is_up(self) -> bool:
        try:
            self.ask()
        except httpx.TransportError:
            return False
        return True

    def fails_by(self, check: str) -> dict[str, Any]:
        """What the probe says of a check that fails; empty where it is well."""
        answer = self.ask()
        found: dict[str, Any] = answer.json()["checks"][check]
        assert answer.status_code == 503 or found["ok"]
        return {} if found["ok"] else found


@pytest.fixture
def watched(site_on: SiteMaker) -> Iterator[Watched]:
    with ExitStack() as stack:
        port = free_port()
        yield Watched(site_on("postgresql", extra=WATCHED.format(port=port)), port, stack)


def test_what_is_seen_of_a_worker_is_so(watched: Watched) -> None:
    site = watched.site
    faults = [{"kind": "unknown_label", "rate": 0.2}]
    site.simulator.configure({"models": {"gpt-4o-mini": {"latency_ms": 50, "faults": faults}}})
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        batch = client.submit_many(intent(text=f"{SECRET} {number}", key=number, tier="small") for number in range(300))
        batch.wait(PATIENCE_S)
    # Escalated tasks wait for a tier without a worker.
    eventually(lambda: scrape(watched.port)["tierq_in_flight"]["small"] == 0, PATIENCE_S)
    attempts = ledger.attempts(batch.id)
    _figures_agree(watched, attempts, ledger.tasks(batch.id))
    ledger.close()

    _stalls(watched)
    _loses_its_store(watched)

    watched.worker.send_signal(signal.SIGTERM)
    assert watched.worker.wait(20) == 0
    assert not watched.is_up()
    _log_agrees(site, attempts)


def _figures_agree(watched: Watched, attempts: list[Any], tasks: list[Any]) -> None:
    found = scrape(watched.port)
    by_outcome = Counter(f"{one.deployment}/{one.outcome}" for one in attempts)
    assert len({one.outcome for one in attempts}) > 1, "the run is to have faults"
    assert {name: count for name, count in found["tierq_attempts_total"].items() if count} == by_outcome
    costs: Counter[str] = Counter()
    for one in attempts:
        costs[one.deployment] += one.cost_nusd
    told = {name: round(usd * 10**9) for name, usd in found["tierq_cost_usd_total"].items()}
    assert told == {name: costs[name] for name in told}
    assert found["tierq_tokens_total"]["mini/input"] == sum(
        one.input_tokens or 0 for one in attempts if one.deployment == "mini"
    )
    states = Counter(one.state for one in tasks)
    assert found["tierq_tasks_total"]["succeeded/small"] == states["succeeded"]
    assert found["tierq_committed_outcomes_total"][""] == len(attempts)
    assert (found["tierq_workers"]["small"], found["tierq_slots"]["small"]) == (1, 200)
    assert found["tierq_breaker_state"].keys() == {"mini", "haiku", "flash"}


def _stalls(watched: Watched) -> None:
    """Its loop stands still: it says so meanwhile, and is well again afterwards."""
    watched.worker.send_signal(signal.SIGUSR2)
    assert eventually(lambda: watched.fails_by("loop"), 5)["silent_s"] >= 2
    eventually(lambda: watched.health() == 200, PATIENCE_S)


def _loses_its_store(watched: Watched) -> None:
    """It cannot renew its lease, and says so while it still has it. Its own figures are there all the time."""
    watched.store.refuse()
    assert 0 < eventually(lambda: watched.fails_by("lease"), 10)["left_s"] < 5
    found = scrape(watched.port)
    assert not found["tierq_ready_tasks"]
    assert found["tierq_healthy"] == {"small": 0}
    watched.store.heal()
    eventually(lambda: watched.health() == 200, PATIENCE_S)
    assert eventually(lambda: scrape(watched.port)["tierq_ready_tasks"])


def _log_agrees(site: Site, attempts: list[Any]) -> None:
    """Every call is a line, and no line has what is private."""
    text = site.logs()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    calls = {one["attempt_id"]: one for one in lines if one.get("event") == "attempt"}
    assert calls.keys() == {one.id for one in attempts}
    for one in attempts:
        told = calls[one.id]
        assert (told["task_id"], told["outcome"], told["latency_ms"]) == (one.task_id, one.outcome, one.latency_ms)
    assert {one["logger"] for one in lines} >= {"tierq.calls", "tierq.worker", "celery.apps.worker"}
    assert SECRET not in text
    assert "Traceback" not in text
