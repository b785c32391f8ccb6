"""The cascade on real workers: what is sure stays on the cheap tier, the rest goes up, each call is charged once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from support.ledger import Ledger
from support.servers import Simulator, Site
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client, Outcome
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import decisions

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[tiers.small]
chain = ["mini"]
max_in_flight = {max_in_flight}
[tiers.large]
chain = ["pro"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{simulator}/v1"
[deployments.pro]
provider = "gemini"
model = "gemini-2.5-pro"
base_url = "{simulator}"
[[policy]]
tier = "small"
[worker]
lease = "2s"
sweep_every = "200ms"
[[cascade]]
type = "classify"
{extra}
"""
COUNT = 60

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def site_with(stack: ExitStack, folder: Path, simulator: Simulator, cascade: str) -> Site:
    return open_site(stack, folder, simulator, template=CONFIG, extra=cascade, database="postgresql")


def run(site: Site) -> list[Outcome[Any]]:
    with Client(config=site.config) as client:
        batch = client.submit_many(intent(text=f"My invoice {number} is wrong", key=number) for number in range(COUNT))
        assert batch.wait(timeout=60).done == COUNT
        return list(batch.results())


def check_the_books(site: Site, outcomes: list[Outcome[Any]]) -> list[Any]:
    """The ledger is the provider's own record, and tasks cost what their calls do; the calls."""
    ledger = Ledger(site)
    calls = [call for outcome in outcomes[:1] for call in ledger.attempts(outcome.batch_id)]
    ledger.close()
    served = site.simulator.served()
    assert set(served) <= {call.id for call in calls}
    assert max(served.values()) == 1
    for outcome in outcomes:
        costs = [call.cost_nusd for call in calls if call.task_id == outcome.task_id]
        assert outcome.cost_nusd == sum(costs)
        assert outcome.attempts == len(costs)
    return calls


def test_unsure_answers_go_up_and_both_calls_are_charged(
    stack: ExitStack, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.configure({"models": {"gpt-4o-mini": {"skill": 0.6}}})
    site = site_with(stack, tmp_path, simulator, 'signal = "logprobs"\nthreshold = 0.8')
    for tier in ("small", "large"):
        site.start_worker(tier)
    outcomes = run(site)
    assert all(outcome.ok for outcome in outcomes)
    kept = [outcome for outcome in outcomes if outcome.tier == "small"]
    gone_up = [outcome for outcome in outcomes if outcome.tier == "large"]
    assert kept
    assert gone_up
    assert all(outcome.confidence is not None and 0.8 <= outcome.confidence <= 1 for outcome in kept)
    assert {(outcome.confidence, outcome.attempts, outcome.deployment) for outcome in gone_up} == {(None, 2, "pro")}
    calls = check_the_books(site, outcomes)
    assert Counter(call.tier for call in calls) == {"small": COUNT, "large": len(gone_up)}
    assert {(call.lane, call.outcome) for call in calls} == {("call", "succeeded")}
    store = Store(site.database_url)
    with store.reading() as connection:
        reasons = connection.execute(select(decisions.c.reason).where(decisions.c.tier == "large")).scalars().all()
    store.close()
    assert len(reasons) == len(gone_up)
    assert all(reason.startswith("escalated from small: not confident: 0.") for reason in reasons)


def test_a_worker_that_is_killed_among_samples_doubles_nothing(
    stack: ExitStack, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.configure({"models": {"*": {"latency_ms": 400}}})
    site = site_with(stack, tmp_path, simulator, 'signal = "agreement"\nthreshold = 0.9')
    ledger = Ledger(site)
    first = site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(intent(text=f"My invoice {number} is wrong", key=number) for number in range(COUNT))
        eventually(lambda: any(one.lane == "sample" for one in ledger.attempts(batch.id)), 30)
        first.send_signal(signal.SIGKILL)
        first.wait()
        under_way = {one.id for one in ledger.attempts(batch.id) if one.outcome == "started"}
        site.start_worker("small")
        assert batch.wait(timeout=60).succeeded == COUNT
        outcomes = list(batch.results())
    ledger.close()
    assert under_way
    assert {(outcome.confidence, outcome.tier, outcome.output) for outcome in outcomes} == {(1.0, "small", "billing")}
    calls = check_the_books(site, outcomes)
    assert {call.id for call in calls if call.outcome == "unknown"} == under_way
    for outcome in outcomes:
        last = max(call.epoch for call in calls if call.task_id == outcome.task_id)
        lanes = [call.lane for call in calls if call.task_id == outcome.task_id and call.epoch == last]
        assert lanes == ["call", "sample", "sample"], "whoever took it over began anew"
