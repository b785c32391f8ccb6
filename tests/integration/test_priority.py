"""Who goes first, how work spreads over workers, and that whatever comes twice is done once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from conftest import SiteMaker
from support.ledger import Ledger
from support.servers import Site
from support.waiting import eventually
from tierq import Batch, Classify, Client, Task
from tierq_shared import configuration
from tierq_shared.queues import Chunk, Publisher, make_app
from tierq_workers.admission import kept_back

PATIENCE_S = 60.0

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(config=site.config) as client:
        yield client


@pytest.fixture
def ledger(site: Site) -> Iterator[Ledger]:
    ledger = Ledger(site)
    yield ledger
    ledger.close()


def tickets(count: int) -> Iterator[Task[str]]:
    for number in range(count):
        yield intent(text=f"My invoice {number} is wrong", key=number)


def answers_after(site: Site, milliseconds: int, jitter: int = 0) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": milliseconds, "latency_jitter_ms": jitter}}})


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_an_interactive_task_is_claimed_within_two_seconds_beside_a_large_batch(
    site_on: SiteMaker, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_on(database)
    answers_after(site, 2_000, jitter=1_000)
    site.start_worker("small")
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        large = client.submit_many(tickets(20_000))
        eventually(lambda: site.simulator.stats()["in_flight"] >= 200 - kept_back(200), PATIENCE_S)
        waits = [_claimed_after_s(client, ledger) for _ in range(5)]
        with capsys.disabled():
            print(f"\n{database}: claimed after {', '.join(f'{wait:.2f}' for wait in waits)} s beside 20,000 tasks")
        progress = large.progress()
        assert progress.done < 10_000
        # The promise itself, by the database's clock.
        assert max(waits) < 2
        large.cancel()
    ledger.close()


def _claimed_after_s(client: Client, ledger: Ledger) -> float:
    handle = client.submit(intent(text="The app crashes", urgency="interactive"))
    (attempt,) = eventually(lambda: ledger.attempts(handle.id), PATIENCE_S)
    (task,) = ledger.tasks(handle.id)
    return float((attempt.started_at - task.created_at).total_seconds())


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_worker_that_starts_late_takes_its_share_of_what_is_left(
    site_on: SiteMaker, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_on(database)
    answers_after(site, 1_000, jitter=500)
    site.start_worker("small")
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(4_000))
        eventually(lambda: batch.progress().done > 200, PATIENCE_S)
        site.start_worker("small")
        assert batch.wait(PATIENCE_S).succeeded == 4_000
    calls = ledger.attempts(batch.id)
    ledger.close()
    begun = sorted((call.started_at, call.worker_id) for call in calls)
    first = begun[0][1]
    joined = next(place for place, (_, worker) in enumerate(begun) if worker != first)
    left = Counter(worker for _, worker in begun[joined:])
    share = 1 - left[first] / left.total()
    with capsys.disabled():
        print(f"\n{database}: a worker that came when {left.total():,} tasks were left took {share:.0%} of them")
    assert left.total() > 1_000
    assert 0.35 <= share <= 0.65


SUBMITTER = """
import sys
from tierq import Classify, Client, KeyConflict

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])
config, key, text = sys.argv[1:]
with Client(config=config) as client:
    try:
        print(client.submit_many((intent(text=f"{text} {n}", key=n) for n in range(1_500)), key=key).id)
    except KeyConflict as error:
        sys.exit(f"KeyConflict: {error}")
"""


def start_submitter(site: Site, key: str, text: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SUBMITTER, str(site.config), key, text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_several_processes_that_submit_one_key_make_one_batch(site_on: SiteMaker, database: str) -> None:
    site = site_on(database)
    site.start_worker("small")
    submitters = [start_submitter(site, "nightly", "My invoice") for _ in range(4)]
    said = [one.communicate(timeout=PATIENCE_S) for one in submitters]
    assert [one.returncode for one in submitters] == [0] * 4, said
    (batch_id,) = {printed.strip() for printed, _ in said}
    changed = start_submitter(site, "nightly", "Another invoice")
    _, complaint = changed.communicate(timeout=PATIENCE_S)
    assert changed.returncode == 1
    assert "KeyConflict" in complaint
    assert "another payload" in complaint
    assert "invoice" not in complaint
    with Client(config=site.config) as client:
        assert client.batch(batch_id).wait(PATIENCE_S).succeeded == 1_500
    assert len(site.simulator.served()) == 1_500


def republish(site: Site, ledger: Ledger, batch: Batch[str], times: int = 1) -> None:
    """Puts a batch's ids on its queue once more, as a broker does that delivers twice."""
    app = make_app(configuration.load(site.config))
    rows = ledger.tasks(batch.id)
    ids = [row.id for row in rows]
    parts = [ids[start : start + 100] for start in range(0, len(ids), 100)] * times
    publisher = Publisher(app)
    publisher.publish(Chunk(f"again-{place}", batch.id, "small", 5, part) for place, part in enumerate(parts))
    publisher.close()


def test_a_chunk_that_is_delivered_again_after_its_tasks_succeeded_costs_nothing(
    site: Site, client: Client, ledger: Ledger
) -> None:
    site.start_worker("small")
    batch = client.submit_many(tickets(300))
    spent = batch.wait(PATIENCE_S).cost_nusd
    republish(site, ledger, batch, times=3)
    # Of the lowest priority, so it is received after all of them.
    assert client.submit(intent(text="Later", priority=0)).wait(PATIENCE_S).ok
    assert site.simulator.stats()["requests"] == 301
    assert Counter(call.outcome for call in ledger.attempts(batch.id)) == {"succeeded": 300}
    assert batch.progress().cost_nusd == spent


def test_a_chunk_that_is_delivered_again_while_its_tasks_run_costs_nothing(
    site: Site, client: Client, ledger: Ledger
) -> None:
    answers_after(site, 300, jitter=200)
    batch = client.submit_many(tickets(600))
    republish(site, ledger, batch, times=3)
    for _ in range(2):
        site.start_worker("small")
    assert batch.wait(PATIENCE_S).succeeded == 600
    assert client.submit(intent(text="Later", priority=0)).wait(PATIENCE_S).ok
    assert site.simulator.stats()["requests"] == 601
