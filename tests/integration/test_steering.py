"""What an operator sets holds on every worker within two seconds, over restarts, and loses nothing."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from conftest import SiteMaker
from support.command import tierq
from support.ledger import Ledger
from support.servers import Site
from support.waiting import eventually
from tierq import Batch, Classify, Client, Task
from tierq_console.status_view import read_report
from tierq_shared.store.connection import Store

PATIENCE_S = 60.0
WITHIN_S = 2.0
"""The promise."""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


def tickets(count: int, tier: str = "small") -> Iterator[Task[str]]:
    for number in range(count):
        yield intent(text=f"My invoice {number} is wrong", key=number, tier=tier)


def answers_after(site: Site, milliseconds: int) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": milliseconds}}})


def steer(site: Site, *arguments: str, code: int = 0) -> str:
    done = tierq(site.folder, *arguments, TIERQ_CONFIG=str(site.config), TIERQ_ACTOR="ann")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def status(site: Site) -> dict[str, Any]:
    """What `tierq status --json` says of tiers."""
    store = Store(site.database_url)
    found = read_report(store, None, 1).json()["tiers"]
    store.close()
    return dict(found)


def begun(site: Site) -> int:
    return int(site.simulator.stats()["requests"])


def begun_in_a_second(site: Site) -> int:
    before = begun(site)
    time.sleep(1.0)
    return begun(site) - before


def stands_still(site: Site) -> bool:
    """Whether no call is under way, and none was begun over a while in which many would have been."""
    return not begun_in_a_second(site) and not site.simulator.stats()["in_flight"]


def test_a_tier_that_is_paused_begins_nothing_until_it_is_resumed(site_on: SiteMaker) -> None:
    site = site_on("postgresql")
    answers_after(site, 200)
    site.start_worker("small")
    site.start_worker("large")
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(2_000))
        eventually(lambda: begun(site) > 300, PATIENCE_S)
        assert "tier small is paused" in steer(site, "pause", "small")
        eventually(lambda: stands_still(site), PATIENCE_S)
        calls = begun(site)
        assert calls < 2_000
        # Not ready, so that nothing starts workers for it; other tiers go on, and a new worker begins nothing either.
        small = status(site)["small"]
        assert (small["ready"], small["waiting"], small["is_paused"]) == (0, 2_000 - calls, True)
        assert client.submit(intent(text="The app crashes", tier="large")).wait(PATIENCE_S).ok
        site.start_worker("small")
        eventually(lambda: status(site)["small"]["workers"] == 2, PATIENCE_S)
        assert stands_still(site)
        assert begun(site) == calls + 1

        assert "goes on" in steer(site, "resume", "small")
        resumed = time.monotonic()
        eventually(lambda: begun(site) > calls + 1, PATIENCE_S)
        # The command itself takes a moment to end after its commit.
        assert time.monotonic() - resumed < WITHIN_S
        assert batch.wait(PATIENCE_S).succeeded == 2_000
    assert set(site.simulator.served().values()) == {1}
    assert {call.outcome for call in ledger.attempts(batch.id)} == {"succeeded"}
    ledger.close()
    recorded = [json.loads(line) for line in steer(site, "actions", "--json").splitlines()]
    assert [(one["actor"], one["action"], one["target"]) for one in recorded] == [
        ("ann", "resume", "tier:small"),
        ("ann", "pause", "tier:small"),
    ]


def test_batches_and_deployments_are_paused_and_put_before_others(site: Site) -> None:
    answers_after(site, 150)
    site.start_worker("small")
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        first = client.submit_many(tickets(6_000))
        eventually(lambda: first.progress().done > 100, PATIENCE_S)
        steer(site, "pause", first.id[:20])
        eventually(lambda: stands_still(site), PATIENCE_S)
        assert client.submit_many(tickets(100)).wait(PATIENCE_S).succeeded == 100
        done = first.progress().done
        assert done < 6_000
        assert status(site)["small"]["ready"] == 0

        steer(site, "pause", "mini")
        steer(site, "resume", f"batch:{first.id}")
        eventually(lambda: first.progress().done > done + 300, PATIENCE_S)
        assert _by_deployment(ledger, first, after=done) == {"haiku"}
        steer(site, "resume", "mini")

        answers_after(site, 500)
        last = client.submit_many(tickets(300))
        assert "has priority 8" in steer(site, "priority", last.id[:20], "8")
        assert "priority 1" in steer(site, "priority", first.id[:20], "relaxed")
        assert last.wait(PATIENCE_S).succeeded == 300
        assert not first.progress().is_over
        assert {row.priority for row in ledger.chunks(first.id)} == {1}
        answers_after(site, 20)
        assert first.wait(PATIENCE_S).succeeded == 6_000
    assert set(site.simulator.served().values()) == {1}
    ledger.close()
    refused = steer(site, "pause", "smal", code=2)
    assert "did you mean 'small'" in refused


def _by_deployment(ledger: Ledger, batch: Batch[str], after: int) -> set[str]:
    """The deployments of a batch's calls in the order in which they began, without the first ones."""
    begun = sorted(ledger.attempts(batch.id), key=lambda call: call.started_at)
    return {call.deployment for call in begun[after:]}


def limits(site: Site) -> dict[str, Any]:
    found = json.loads(steer(site, "deployments", "--json"))["limits"]
    return {one["deployments"][0]: one["rpm"] for one in found}


def test_a_limit_holds_at_once_and_sighup_takes_up_the_file(site: Site) -> None:
    answers_after(site, 400)
    worker = site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(3_000))
        eventually(lambda: begun(site) > 100, PATIENCE_S)
        assert "mini: 60 RPM" in steer(site, "limit", "mini", "--rpm", "60")
        assert limits(site)["mini"] == 60
        eventually(lambda: begun_in_a_second(site) <= 3, PATIENCE_S)
        assert not batch.progress().is_over
        steer(site, "limit", "mini", "--clear")
        assert batch.wait(PATIENCE_S).succeeded == 3_000

        text = site.config.read_text()
        site.config.write_text(text.replace('chain = ["mini", "haiku", "flash"]', 'chain = ["flash"]', 1))
        worker.send_signal(signal.SIGHUP)
        eventually(lambda: "is followed from now on" in site.logs(), PATIENCE_S)
        assert Counter(_deployments(client.submit_many(tickets(40)))) == {"flash": 40}

        site.config.write_text(text.replace("max_in_flight", "max_in_fligth"))
        worker.send_signal(signal.SIGHUP)
        eventually(lambda: "did you mean 'max_in_flight'" in site.logs(), PATIENCE_S)
        site.config.write_text(text)
        assert Counter(_deployments(client.submit_many(tickets(20)))) == {"flash": 20}
    assert worker.poll() is None


def _deployments(batch: Batch[str]) -> Iterator[str | None]:
    for outcome in batch.as_completed(timeout=PATIENCE_S):
        assert outcome.ok
        yield outcome.deployment
