"""The result cache with real workers: what reaches the provider, and what is paid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.ledger import Ledger
from support.servers import Simulator, Site
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client
from tierq.handles import Batch
from tierq_shared.store.connection import Store
from tierq_shared.store.leases import live_workers

PATIENCE_S = 60.0

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[worker]
lease = "3s"
sweep_every = "200ms"
[tiers.small]
chain = ["mini"]
max_in_flight = 20
[deployments.mini]
provider = "openai"
model = "mini"
base_url = "{simulator}/v1"
price = {{ input = 1.0, output = 100.0 }}
{extra}
"""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"], tier="small", cache=True)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[Site]:
    with ExitStack() as stack:
        yield open_site(stack, tmp_path, simulator, template=CONFIG, database="postgresql")


def submitted(client: Client) -> Batch[str]:
    return client.submit_many(intent(f"My invoice {number % 20} is wrong", key=number) for number in range(200))


def await_workers(site: Site, count: int) -> None:
    store = Store(site.database_url)

    def are_alive() -> bool:
        with store.reading() as connection:
            return sum(live_workers(connection).values()) == count

    eventually(are_alive, timeout=PATIENCE_S)
    store.close()


def test_identical_tasks_share_one_call_and_later_ones_make_none(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 100}}})
    for _ in range(2):
        site.start_worker("small")
    await_workers(site, 2)
    with Client(config=site.config) as client:
        batch = submitted(client)
        outcomes = list(batch.results(PATIENCE_S))
        assert len(site.simulator.served()) == 20
        again = list(submitted(client).results(PATIENCE_S))
        assert len(site.simulator.served()) == 20, "all of the second batch is answered from the store"
        total = batch.progress().cost_nusd
    called = [one for one in outcomes if not one.cached]
    assert (len(outcomes), len(called), all(one.ok for one in outcomes)) == (200, 20, True)
    assert len({int(str(one.key)) % 20 for one in called}) == 20
    answers = {int(str(one.key)) % 20: one.output for one in called}
    assert all(one.output == answers[int(str(one.key)) % 20] for one in [*outcomes, *again])
    assert all((one.cached, one.cost_nusd, one.attempts) == (True, 0, 0) for one in again)
    ledger = Ledger(site)
    spent = sum(one.cost_nusd for one in ledger.attempts(batch.id))
    ledger.close()
    assert sum(one.cost_nusd or 0 for one in outcomes) == spent == total
    assert spent > 0
