"""Failed tasks are told by cause and sent again, with real workers, over each store."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import func, select

from conftest import SiteMaker
from support.command import tierq
from support.servers import Site
from support.waiting import eventually
from tierq import AsyncClient, Batch, Classify, Client, Outcome, Progress, RetryRefused
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

QUICK = '[worker]\nmax_attempts = 1\nsweep_every = "200ms"'
"""A task fails after one call: more calls would wait until the breakers let them through."""

PATIENCE_S = 60.0

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["postgresql"])
def site(site_on: SiteMaker, request: pytest.FixtureRequest) -> Site:
    """With a worker on the tier, and every provider down."""
    site = site_on(request.param, extra=QUICK)
    site.simulator.outage(kind="overloaded", seconds=None)
    site.start_worker("small")
    return site


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(config=site.config) as client:
        yield client


def tickets(count: int) -> list[Classify]:
    return [intent(text=f"My invoice {number} is wrong", key=f"T{number}") for number in range(count)]


def says(site: Site, *arguments: str, code: int = 0) -> str:
    done = tierq(site.folder, *arguments, TIERQ_CONFIG=str(site.config))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def exact(site: Site, batch: Batch[Any]) -> None:
    """What the tallies say is what the rows say, task by task and call by call."""
    progress = batch.progress()
    of_batch = tasks.c.batch_id == batch.id
    with closing(Store(site.database_url)) as store, store.reading() as connection:
        states = dict(
            connection.execute(select(tasks.c.state, func.count()).where(of_batch).group_by(tasks.c.state)).all()
        )
        ledger = connection.execute(
            select(attempts.c.task_id, attempts.c.ordinal, attempts.c.cost_nusd)
            .join(tasks, tasks.c.id == attempts.c.task_id)
            .where(of_batch)
        ).all()
    assert {"succeeded": progress.succeeded, "failed": progress.failed} == {
        state: states.get(state, 0) for state in ("succeeded", "failed")
    }
    assert progress.cost_nusd == sum(row.cost_nusd for row in ledger)
    assert len({(row.task_id, row.ordinal) for row in ledger}) == len(ledger)


def test_from_the_failure_to_its_cause_to_the_retry(site: Site, client: Client) -> None:
    batch = client.submit_many(tickets(250))
    assert batch.wait(PATIENCE_S).failed == 250

    told = says(site, "failures", batch.id[:20])
    assert "× all_deployments_failed · may succeed another time" in told
    assert "1 call was made: mini: overloaded (5" in told
    assert "T0" in told
    found = json.loads(says(site, "failures", batch.id, "--json"))
    assert (found["total"], sum(group["tasks"] for group in found["groups"])) == (250, 250)
    calls = found["groups"][0]["example"]["attempts"]
    assert [(call["ordinal"], call["deployment"], call["outcome"]) for call in calls] == [(1, "mini", "overloaded")]
    assert all(call["http_status"] >= 500 and call["error"] for call in calls)

    site.simulator.recover()
    assert "250 tasks are queued again: 250 × all_deployments_failed" in says(site, "retry", batch.id[:20])

    progress = batch.wait(PATIENCE_S)
    assert (progress.succeeded, progress.failed, progress.total) == (250, 0, 250)
    eventually(lambda: batch.progress().state == "finished")
    outcomes = list(batch.results())
    assert all(outcome.ok and outcome.attempts == 2 and outcome.error is None for outcome in outcomes)
    exact(site, batch)
    assert max(site.simulator.served().values()) == 1
    assert "no task" in says(site, "failures", batch.id)
    assert "no task of batch" in says(site, "retry", batch.id)


def test_a_retry_has_the_whole_budget_of_calls_anew(site: Site, client: Client) -> None:
    handle = client.submit(intent(text="The app crashes"))
    assert handle.wait(PATIENCE_S).attempts == 1
    assert handle.batch.retry().total == 1
    again = handle.wait(PATIENCE_S)
    assert (again.attempts, again.ok) == (2, False)
    (group,) = handle.batch.failures().groups
    assert [call.ordinal for call in group.example.attempts] == [1, 2]
    exact(site, handle.batch)


def test_two_programs_retry_at_once_while_the_batch_still_runs(site: Site, client: Client) -> None:
    """Some tasks have failed, others wait or run; nothing is lost, sent twice or counted twice."""
    batch = client.submit_many(tickets(600))
    eventually(lambda: batch.progress().failed > 20, PATIENCE_S)
    site.simulator.recover()
    sent: list[int] = []

    def retry() -> None:
        with Client(config=site.config) as other:
            sent.append(other.batch(batch.id).retry().total)

    threads = [threading.Thread(target=retry) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batch.wait(PATIENCE_S)
    batch.retry()
    progress = batch.wait(PATIENCE_S)
    assert (progress.succeeded, progress.failed) == (600, 0)
    assert sum(sent) >= 20
    exact(site, batch)
    eventually(lambda: batch.progress().state == "finished")


def test_a_reader_that_came_late_sees_each_task_once(site: Site, client: Client) -> None:
    batch = client.submit_many(tickets(5))
    assert all(not outcome.ok for outcome in batch.as_completed(PATIENCE_S))
    site.simulator.recover()
    batch.retry()
    seen: list[Outcome[Any]] = list(batch.as_completed(PATIENCE_S))
    assert sorted(outcome.position for outcome in seen) == [0, 1, 2, 3, 4]
    assert all(outcome.ok for outcome in seen)


def test_from_asyncio(site: Site) -> None:
    async def work() -> None:
        async with AsyncClient(config=site.config) as client:
            batch = await client.submit_many(tickets(3))
            await batch.wait(PATIENCE_S)
            assert (await batch.failures()).total == 3
            with pytest.raises(RetryRefused):
                await batch.retry(["no_such_code"])
            site.simulator.recover()
            assert (await batch.retry(["all_deployments_failed"])).total == 3
            assert [outcome.ok async for outcome in batch.results(PATIENCE_S)] == [True] * 3

    asyncio.run(work())


def test_the_command_says_what_it_leaves_out(site: Site, client: Client) -> None:
    site.simulator.recover()
    site.simulator.configure({"models": {"*": {"faults": [{"kind": "refused", "rate": 1.0}]}}})
    batch = client.submit_many(tickets(2))
    assert batch.wait(PATIENCE_S).failed == 2
    left = says(site, "retry", batch.id)
    assert "no task of batch" in left
    assert f"left out: 2 × refused; `tierq retry {batch.id[:12]} --code refused`" in left
    site.simulator.configure({"models": {}})
    assert json.loads(says(site, "retry", batch.id, "--code", "refused", "--json"))["queued"] == {"refused": 2}
    assert batch.wait(PATIENCE_S).succeeded == 2
    assert "did you mean 'refused'" in says(site, "retry", batch.id, "--code", "refusd", code=2)
    batch.cancel()
    assert "was cancelled" in says(site, "retry", batch.id, code=2)


def test_progress_never_says_more_than_there_is(site: Site, client: Client) -> None:
    """Looked at all the while: counts stay within the batch, and it is over only when all have ended."""
    batch = client.submit_many(tickets(300))
    batch.wait(PATIENCE_S)
    site.simulator.recover()
    batch.retry()
    progress = eventually(lambda: over(batch.progress()), PATIENCE_S, every=0.01)
    assert progress.succeeded == 300


def over(progress: Progress) -> Progress | None:
    assert 0 <= progress.done <= 300
    assert progress.failed == 0
    return progress if progress.is_over else None
