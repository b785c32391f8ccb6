"""Hard caps with real workers: what reaches the provider, what the ledger says of it, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select

from support.ledger import Ledger
from support.servers import Simulator, Site
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client
from tierq_shared.money import NANO, to_nano
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, budgets

PATIENCE_S = 100.0

# Output that is dear beside input: a worst case is many times what a call really costs.
CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[worker]
lease = "3s"
sweep_every = "200ms"
[[policy]]
stakes = "high"
tier = "large"
[[policy]]
tier = "small"
[tiers.small]
chain = ["mini"]
max_in_flight = 20
[tiers.large]
chain = ["pro"]
[deployments.mini]
provider = "openai"
model = "mini"
base_url = "{simulator}/v1"
max_output_tokens = 100
price = {{ input = 1.0, output = 100.0 }}
[deployments.pro]
provider = "openai"
model = "pro"
base_url = "{simulator}/v1"
max_output_tokens = 100
price = {{ input = 10.0, output = 1000.0 }}
{extra}
"""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

pytestmark = pytest.mark.timeout(240)

SiteMaker = Callable[..., Site]


@pytest.fixture
def site_with(tmp_path: Path, simulator: Simulator) -> Iterator[SiteMaker]:
    """Builds a site: `site_with("[[caps]] …", database="postgresql")`."""
    with ExitStack() as stack:
        yield lambda extra="", database="sqlite": open_site(
            stack, tmp_path, simulator, template=CONFIG, extra=extra, database=database
        )


def ledger_sum(site: Site) -> int:
    """What all calls cost, those of unknown outcome at their worst case."""
    store = Store(site.database_url)
    with store.reading() as connection:
        charged = func.sum(func.coalesce(attempts.c.cost_nusd, attempts.c.reserved_nusd, 0))
        total = connection.execute(select(charged)).scalar_one()
    store.close()
    return int(total or 0)


def standing(site: Site) -> dict[str, tuple[int, int]]:
    """Spent and reserved of each budget."""
    store = Store(site.database_url)
    with store.reading() as connection:
        found = {row.scope: (row.spent_nusd, row.reserved_nusd) for row in connection.execute(select(budgets))}
    store.close()
    return found


def tickets(count: int) -> list[object]:
    return [intent(text=f"My invoice {number} is wrong", key=number) for number in range(count)]


def test_eight_processes_never_pass_the_cap_and_a_killed_one_keeps_it(site_with: SiteMaker) -> None:
    site = site_with(database="postgresql")
    site.simulator.configure({"models": {"*": {"latency_ms": 150}}})
    cap = to_nano("0.40")
    processes = [site.start_worker("small") for _ in range(8)]
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(600), max_cost="0.40")
        eventually(lambda: batch.progress().succeeded >= 20, timeout=PATIENCE_S)
        processes[0].kill()
        ended = batch.wait(PATIENCE_S)
        assert ended.succeeded > 20
        assert ended.succeeded + ended.failed == 600
        codes = {outcome.error.code for outcome in batch.outcomes() if outcome.error is not None}
        assert codes == {"cap_reached"}
    # A late answer of the killed worker cannot come: what it had under way stays charged at the worst case.
    spent = ledger_sum(site)
    assert spent <= cap
    assert standing(site) == {f"batch:{batch.id}": (spent, 0)}
    worst = max(one.reserved_nusd for one in _attempts(site, batch.id))
    assert spent > cap - worst, "it was used as far as the next call's worst case allows"
    ledger = {one.id: one.outcome for one in _attempts(site, batch.id)}
    served = site.simulator.served()
    assert max(served.values()) == 1
    assert set(served) <= set(ledger), "no call that the ledger does not know"
    assert {id_ for id_, outcome in ledger.items() if outcome == "succeeded"} <= set(served)
    assert {ledger[id_] for id_ in set(ledger) - set(served)} <= {"unknown", "cancelled"}


def _attempts(site: Site, batch_id: str) -> list[object]:
    ledger = Ledger(site)
    found = ledger.attempts(batch_id)
    ledger.close()
    return found


def test_what_waits_for_a_batchs_cap_goes_on_when_it_is_raised(site_with: SiteMaker) -> None:
    site = site_with()
    site.start_worker("small")
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(60), max_cost="0.02", on_cap="wait")
        eventually(lambda: _is_reached(site), timeout=PATIENCE_S)
        before = batch.progress()
        assert 0 < before.succeeded < 60
        assert (before.failed, before.max_cost_nusd) == (0, NANO // 50)
        assert ledger_sum(site) <= NANO // 50
        # Others are served meanwhile: what waits holds no slot and no receiver.
        assert client.submit(intent(text="The app crashes", urgency="interactive")).wait(20).ok
        batch.set_cap("1.00")
        assert batch.wait(PATIENCE_S).succeeded == 60


def _is_reached(site: Site) -> bool:
    store = Store(site.database_url)
    with store.reading() as connection:
        reached = connection.execute(select(budgets.c.reached_at)).scalars().all()
    store.close()
    return any(reached)


def test_a_days_cap_on_a_tag_moves_work_down_and_leaves_other_tags_alone(site_with: SiteMaker) -> None:
    caps = '[[caps]]\ntag = "team=search"\nper = "day"\nusd = "0.06"\nwhen_reached = "downgrade"\n'
    site = site_with(caps)
    for tier in ("small", "large"):
        site.start_worker(tier)
    with Client(config=site.config) as client:
        search = client.submit_many([intent(text="wrong", stakes="high", min_tier="large", tags={"team": "search"})])
        assert [one.error.code for one in search.results(PATIENCE_S) if one.error] == ["cap_reached"]
        free = client.submit_many([intent(text="wrong", tier="large")], tags={"team": "mail"})
        assert free.wait(PATIENCE_S).succeeded == 1
        down = client.submit_many([intent(text="It is wrong", stakes="high")], tags={"team": "search"})
        (outcome,) = down.results(PATIENCE_S)
        assert (outcome.ok, outcome.tier) == (True, "small")
    ((scope, (spent, reserved)),) = standing(site).items()
    assert scope.startswith("day:")
    assert scope.endswith(":team=search")
    assert (spent, reserved) == (outcome.cost_nusd, 0)


def test_a_tasks_own_cap_that_no_call_can_keep_fails_it_before_any(site_with: SiteMaker) -> None:
    site = site_with()
    site.start_worker("small")
    with Client(config=site.config) as client:
        outcome = client.submit(intent(text="wrong", max_cost="0.001")).wait(PATIENCE_S)
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.retryable, outcome.attempts) == ("cap_reached", True, 0)
        assert "$0.001000" in outcome.error.message
        assert client.submit(intent(text="wrong", max_cost=0.05)).wait(PATIENCE_S).ok
    assert standing(site) == {}
    assert site.simulator.last_requests()[0]["body"]["max_completion_tokens"] == 100
