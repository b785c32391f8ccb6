"""The whole way of a task, with real worker processes, over each store and broker."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select

from conftest import SiteMaker
from support.servers import Site
from support.waiting import eventually
from tierq import Answer, Classify, Client, Extract, Generate, TaskState
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, chunks, decisions, tasks

intent = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="Sort the ticket.")


class Invoice(BaseModel):
    vendor: str
    total: float
    note: str | None = None


def tickets(count: int) -> list[object]:
    return [intent(text=f"My invoice {number} is wrong", key=number) for number in range(count)]


@pytest.mark.parametrize(
    ("database", "broker"),
    [
        ("sqlite", "redis"),
        ("postgresql", "redis"),
        ("postgresql", "rabbitmq"),
        ("sqlite", "rabbitmq"),
    ],
)
def test_a_batch_runs_end_to_end(site_on: SiteMaker, database: str, broker: str) -> None:
    site = site_on(database, broker)
    site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(250), tags={"team": "support"})
        outcomes = {outcome.key: outcome for outcome in batch.as_completed(timeout=60)}
        assert len(outcomes) == 250
        assert all(outcome.ok and outcome.output in ("billing", "bug", "praise") for outcome in outcomes.values())
        assert outcomes["7"].tags == {"team": "support"}
        assert outcomes["7"].cost_usd
        progress = batch.wait(timeout=10)
        assert (progress.total, progress.succeeded, progress.state) == (250, 250, "finished")
        assert [outcome.position for outcome in batch.results()] == list(range(250))
        assert sum(outcome.cost_nusd or 0 for outcome in outcomes.values()) == progress.cost_nusd
    served = site.simulator.served()
    store = Store(site.database_url)
    with store.reading() as connection:
        ledger = connection.execute(select(attempts.c.id, attempts.c.outcome)).all()
        assert {row.id for row in ledger} == set(served)
        assert {row.outcome for row in ledger} == {"succeeded"}
        assert max(served.values()) == 1
        assert connection.execute(select(func.count()).select_from(decisions)).scalar_one() == 250
        assert connection.execute(select(func.count()).select_from(chunks)).scalar_one() == 0
    store.close()


def test_each_task_type_gives_its_own_value(site: Site) -> None:
    for tier in ("small", "medium", "large"):
        site.start_worker(tier)
    with Client(config=site.config) as client:
        invoice = client.submit(Extract(text="Vendor ACME, total 12.50 EUR", schema=Invoice)).wait(timeout=30).unwrap()
        assert isinstance(invoice, Invoice)
        passages = {"p1": "In summer the colour of the sky is blue."}
        answer = client.submit(Answer("What colour is the sky in summer?", passages)).wait(timeout=30).unwrap()
        assert answer.answerable
        assert answer.citations == ["p1"]
        several = client.submit(Classify("invoice bug", ["billing", "bug", "praise"], multi=True)).wait(timeout=30)
        assert isinstance(several.unwrap(), list)
        text = client.submit(Generate("Write one line about the sea.", stakes="high")).wait(timeout=30)
        assert text.unwrap()
        assert text.tier == "large"


def test_it_fails_over_and_the_ledger_says_so(site: Site) -> None:
    site.simulator.outage(provider="openai", kind="overloaded", seconds=None)
    site.start_worker("small")
    with Client(config=site.config) as client:
        outcome = client.submit(intent(text="The app crashes")).wait(timeout=30)
    assert outcome.ok
    assert (outcome.deployment, outcome.attempts) == ("haiku", 2)


def test_invalid_output_is_asked_again_once_then_escalates(site: Site) -> None:
    site.simulator.configure({"models": {"gpt-4o-mini": {"faults": [{"kind": "unknown_label", "rate": 1.0}]}}})
    site.start_worker("small")
    site.start_worker("medium")
    with Client(config=site.config) as client:
        outcome = client.submit(intent(text="The app crashes")).wait(timeout=30)
    assert outcome.ok
    assert outcome.tier == "medium"
    store = Store(site.database_url)
    with store.reading() as connection:
        lanes = connection.execute(
            select(attempts.c.tier, attempts.c.lane, attempts.c.outcome).order_by(attempts.c.ordinal)
        ).all()
        reasons = connection.execute(select(decisions.c.reason).order_by(decisions.c.created_at)).scalars().all()
    store.close()
    assert [tuple(row) for row in lanes] == [
        ("small", "call", "invalid_output"),
        ("small", "reask", "invalid_output"),
        ("medium", "call", "succeeded"),
    ]
    assert reasons[-1] == "escalated from small: invalid_output"


def test_a_worker_killed_in_the_middle_costs_no_task(site_on: SiteMaker) -> None:
    site = site_on(extra='[worker]\nlease = "2s"\nsweep_every = "250ms"')
    site.simulator.configure({"models": {"*": {"latency_ms": 40}}})
    victim = site.start_worker("small", TIERQ_TEST="1")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(600))
        eventually(lambda: batch.progress().done > 50)
        victim.kill()
        victim.wait()
        site.start_worker("small")
        keys = [outcome.key for outcome in batch.as_completed(timeout=60)]
        assert sorted(keys, key=int) == [str(number) for number in range(600)]
        assert batch.wait(timeout=10).succeeded == 600
    served = site.simulator.served()
    store = Store(site.database_url)
    with store.reading() as connection:
        ledger = {row.id: row.outcome for row in connection.execute(select(attempts.c.id, attempts.c.outcome))}
        ended = connection.execute(select(tasks.c.state, func.count()).group_by(tasks.c.state)).all()
        succeeded = select(attempts.c.task_id, func.count()).where(attempts.c.outcome == "succeeded")
        won = connection.execute(succeeded.group_by(attempts.c.task_id)).all()
    store.close()
    assert [tuple(row) for row in ended] == [("succeeded", 600)]
    assert all(count == 1 for _, count in won)
    assert set(served) <= set(ledger)
    assert {"succeeded", "unknown"} >= set(ledger.values())
    assert {id_ for id_, outcome in ledger.items() if outcome == "succeeded"} <= set(served)


def test_a_stopped_worker_hands_its_work_back_at_once(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 30}}})
    first = site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(600))
        eventually(lambda: batch.progress().done > 20)
        first.terminate()
        assert first.wait(20) == 0
        site.start_worker("small")
        assert batch.wait(timeout=60).succeeded == 600


def test_cancel_keeps_what_is_finished(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 100}}})
    site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(2000))
        eventually(lambda: batch.progress().succeeded > 50)
        batch.cancel()
        progress = batch.wait(timeout=30)
        assert progress.state == "cancelled"
        assert progress.succeeded + progress.cancelled == 2000
        assert progress.cancelled > 0
        states = {outcome.state for outcome in batch.results()}
    assert states == {TaskState.SUCCEEDED, TaskState.CANCELLED}


def test_secrets_and_prompts_appear_in_no_log(site: Site) -> None:
    site.start_worker("small")
    with Client(config=site.config) as client:
        client.submit(intent(text="planted-prompt-4711")).wait(timeout=30)
    site.stop_workers()
    logs = site.logs()
    assert "planted-prompt-4711" not in logs
    assert not [key for key in Site.KEYS.values() if key in logs]
