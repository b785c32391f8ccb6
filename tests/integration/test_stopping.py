"""Stopping and cancelling, with real workers: nothing is lost, nothing waits for a lease, no call is made too many."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import SiteMaker
from support.ledger import Ledger
from support.servers import Site
from support.waiting import eventually
from tierq import Batch, Classify, Client, TaskState

PATIENCE_S = 50.0
"""Less than the lease below: whatever ends within it has waited for no lease."""

STOPPING = """
[worker]
lease = "60s"
grace = "{grace}"
sweep_every = "200ms"
"""

RUNS = [("sqlite", "redis", 2), ("postgresql", "rabbitmq", 1)]
"""Store, broker, and how often TERM is sent."""


COUNT = 600
"""Tasks, of which a worker has 200 in flight."""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

Starter = Callable[..., tuple[Site, Client, Ledger]]


@pytest.fixture
def on(site_on: SiteMaker) -> Iterator[Starter]:
    """Builds a site with its client and its ledger."""
    opened: list[Any] = []

    def build(database: str = "sqlite", broker: str = "redis", *, grace: str = "20s") -> tuple[Site, Client, Ledger]:
        site = site_on(database, broker, STOPPING.format(grace=grace))
        client, ledger = Client(config=site.config), Ledger(site)
        opened.extend([client, ledger])
        return site, client, ledger

    yield build
    for one in opened:
        one.close()


def answers_after(site: Site, milliseconds: int, **fault: Any) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": milliseconds, "faults": [fault] if fault else []}}})


def submit(client: Client, count: int = COUNT) -> Batch[str]:
    return client.submit_many(intent(text=f"My invoice {number} is wrong") for number in range(count))


def in_flight(site: Site) -> int:
    return int(site.simulator.stats()["in_flight"])


def outcomes(ledger: Ledger, batch: Batch[str]) -> Counter[str]:
    return Counter(row.outcome for row in ledger.attempts(batch.id))


def check_nothing_is_lost_or_done_twice(site: Site, ledger: Ledger, batch: Batch[str]) -> None:
    """Every call that was served stands in the ledger, every task has succeeded by exactly one of them."""
    calls = ledger.attempts(batch.id)
    served = site.simulator.served()
    assert set(served) <= {call.id for call in calls}
    assert max(served.values()) == 1
    won = Counter(call.task_id for call in calls if call.outcome == "succeeded")
    assert won == {task.id: 1 for task in ledger.tasks(batch.id)}


def working(worker: subprocess.Popen[bytes], site: Site) -> None:
    """Waits until a worker has calls in flight."""
    eventually(lambda: in_flight(site) >= 100, PATIENCE_S)
    assert worker.poll() is None


def terminate(worker: subprocess.Popen[bytes], site: Site, signals: int = 1) -> None:
    """TERM, and TERM again as soon as the worker has begun to stop."""
    worker.terminate()
    eventually(lambda: "Warm shutdown" in site.logs(), PATIENCE_S)
    for _ in range(signals - 1):
        worker.terminate()


@pytest.mark.parametrize(("database", "broker", "signals"), RUNS)
def test_what_is_in_flight_finishes_and_the_rest_goes_to_another_at_once(
    on: Starter, database: str, broker: str, signals: int
) -> None:
    site, client, ledger = on(database, broker)
    answers_after(site, 1_500)
    first = site.start_worker("small")
    batch = submit(client)
    working(first, site)
    terminate(first, site, signals)
    assert first.wait(PATIENCE_S) == 0
    done = batch.progress().succeeded
    assert 100 <= done < COUNT
    assert outcomes(ledger, batch) == {"succeeded": done}
    answers_after(site, 0)
    site.start_worker("small")
    assert batch.wait(PATIENCE_S).succeeded == COUNT
    assert outcomes(ledger, batch) == {"succeeded": COUNT}
    check_nothing_is_lost_or_done_twice(site, ledger, batch)


@pytest.mark.parametrize(("database", "broker", "signals"), RUNS)
def test_what_outlasts_the_grace_is_handed_back_and_stays_charged(
    on: Starter, database: str, broker: str, signals: int
) -> None:
    site, client, ledger = on(database, broker, grace="1s")
    answers_after(site, 600_000)
    first = site.start_worker("small")
    batch = submit(client)
    working(first, site)
    terminate(first, site, signals)
    assert first.wait(PATIENCE_S) == 0
    assert {task.state for task in ledger.tasks(batch.id)} == {"queued"}
    given_up = ledger.attempts(batch.id)
    assert {call.outcome for call in given_up} <= {"unknown", "cancelled"}
    assert all(call.cost_nusd == (call.reserved_nusd if call.outcome == "unknown" else 0) for call in given_up)
    answers_after(site, 0)
    site.start_worker("small")
    assert batch.wait(PATIENCE_S).succeeded == COUNT
    check_nothing_is_lost_or_done_twice(site, ledger, batch)
    assert batch.progress().cost_nusd == sum(call.cost_nusd for call in ledger.attempts(batch.id))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_kill_within_the_grace_loses_nothing(site_on: SiteMaker, database: str) -> None:
    """As `docker stop` does, whose patience is shorter than the grace."""
    site = site_on(database, extra='[worker]\nlease = "2s"\ngrace = "60s"\nsweep_every = "200ms"')
    answers_after(site, 600_000)
    first = site.start_worker("small")
    with Client(config=site.config) as client:
        batch = submit(client)
        working(first, site)
        terminate(first, site)
        first.kill()
        first.wait()
        answers_after(site, 0)
        site.start_worker("small")
        assert batch.wait(PATIENCE_S).succeeded == COUNT
        ledger = Ledger(site)
        check_nothing_is_lost_or_done_twice(site, ledger, batch)
        assert set(outcomes(ledger, batch)) == {"unknown", "succeeded"}
        ledger.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_cancel_ends_what_waits_lets_finish_what_runs_and_keeps_what_is_done(
    on: Starter, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site, client, ledger = on(database)
    answers_after(site, 700)
    site.start_worker("small")
    batch = submit(client, 5_000)
    eventually(lambda: batch.progress().succeeded > 100, PATIENCE_S)
    began = time.monotonic()
    batch.cancel()
    eventually(lambda: not any(task.state == "queued" for task in ledger.tasks(batch.id)), PATIENCE_S)
    with capsys.disabled():
        print(f"\n{database}: nothing of 5,000 tasks was queued {time.monotonic() - began:.2f} s after cancel")
    progress = batch.wait(PATIENCE_S)
    assert progress.state == "cancelled"
    assert progress.succeeded + progress.cancelled == 5_000
    assert progress.cancelled > 3_000
    assert {outcome.state for outcome in batch.outcomes()} == {TaskState.SUCCEEDED, TaskState.CANCELLED}
    assert outcomes(ledger, batch) == {"succeeded": progress.succeeded}
    check_no_further_call_is_made(site, client)


def check_no_further_call_is_made(site: Site, client: Client) -> None:
    """A task that is submitted later runs, and its call is the only one since."""
    made = site.simulator.stats()["requests"]
    answers_after(site, 0)
    assert client.submit(intent(text="Later")).wait(PATIENCE_S).ok
    assert site.simulator.stats()["requests"] == made + 1


def test_a_running_task_of_a_cancelled_batch_stops_before_its_next_call(on: Starter) -> None:
    site, client, ledger = on()
    answers_after(site, 1_500, kind="unknown_label")
    site.start_worker("small")
    batch = submit(client, 50)
    eventually(lambda: in_flight(site) == 50, PATIENCE_S)
    batch.cancel()
    assert batch.wait(PATIENCE_S).cancelled == 50
    assert outcomes(ledger, batch) == {"invalid_output": 50}
    assert all(task.cost_nusd > 0 for task in ledger.tasks(batch.id))
    check_no_further_call_is_made(site, client)
