"""Breakers and limits with real workers: what reaches a provider that is down, and who waits for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from support.ledger import Ledger
from support.servers import Simulator, Site, fresh_redis
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client, Task
from tierq_shared import configuration
from tierq_workers.permits.history import BreakerSeen, Condition, History

PATIENCE_S = 90.0
SLOTS = 20
WORKERS = 2

# Braces that stay are doubled: the site fills in its own places.
CONFIG = """
database_url = "{{database_url}}"
broker_url = "{{broker_url}}"
state_url = "{{state_url}}"
[limits.account]
rpm = {rpm}
[tiers.small]
max_in_flight = {slots}
chain = {chain}
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{{simulator}}/v1"
limit = "account"
[deployments.haiku]
provider = "anthropic"
model = "claude-haiku-4-5"
base_url = "{{simulator}}"
[[policy]]
tier = "small"
{{extra}}
"""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

pytestmark = pytest.mark.timeout(240)

SiteMaker = Callable[..., Site]


@pytest.fixture
def site_with(tmp_path: Path, simulator: Simulator) -> Iterator[SiteMaker]:
    """Builds a site: `site_with(["mini"], rpm=300, workers=1)`."""
    with ExitStack() as stack:

        def build(chain: list[str], *, rpm: int = 600_000, slots: int = SLOTS, workers: int = WORKERS) -> Site:
            config = CONFIG.format(chain=chain, rpm=rpm, slots=slots)
            site = open_site(stack, tmp_path, simulator, template=config)
            for _ in range(workers):
                site.start_worker("small")
            return site

        yield build


def tickets(count: int) -> Iterator[Task[str]]:
    for number in range(count):
        yield intent(text=f"My invoice {number} is wrong", key=number)


def answers_after(site: Site, milliseconds: int) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": milliseconds}}})


def calls_of(site: Site, model: str) -> int:
    return int(site.simulator.stats()["by_model"].get(model, {}).get("requests", 0))


def breakers(site: Site) -> dict[str, BreakerSeen]:
    settings = configuration.load(site.config)
    assert settings.state_url is not None
    history = History(settings.state_url.get_secret_value(), settings)
    found = {one.deployment: one for one in history.report(settings.deployments).breakers}
    history.close()
    return found


def is_out(site: Site, deployment: str) -> bool:
    return breakers(site)[deployment].condition is not Condition.CLOSED


def test_few_calls_reach_a_provider_that_is_down_and_the_next_one_answers(site_with: SiteMaker) -> None:
    site = site_with(["mini", "haiku"])
    answers_after(site, 100)
    site.simulator.outage(provider="openai", kind="overloaded", seconds=None)
    with Client(config=site.config) as client:
        assert client.submit_many(tickets(400)).wait(PATIENCE_S).succeeded == 400
        until_it_opened = calls_of(site, "gpt-4o-mini")
        # All slots twice: those that were on their way, and those that began before word of the failures was out.
        assert until_it_opened <= 2 * WORKERS * SLOTS
        seen = breakers(site)["mini"]
        assert seen.openings >= 1
        assert not is_out(site, "haiku")
        assert client.submit_many(tickets(400)).wait(PATIENCE_S).succeeded == 400
    probes = calls_of(site, "gpt-4o-mini") - until_it_opened
    assert probes <= breakers(site)["mini"].openings


def test_where_all_of_a_chain_is_down_tasks_wait_and_none_fails(site_with: SiteMaker) -> None:
    site = site_with(["mini", "haiku"])
    answers_after(site, 50)
    site.simulator.outage(kind="overloaded", seconds=None)
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(200))
        eventually(lambda: is_out(site, "mini") and is_out(site, "haiku"), PATIENCE_S)
        eventually(lambda: _states(ledger, batch.id) == {"queued": 200}, PATIENCE_S)
        # Through a probe that fails, too.
        openings = breakers(site)["mini"].openings
        eventually(lambda: breakers(site)["mini"].openings > openings, PATIENCE_S)
        assert not {"failed", "expired"} & _states(ledger, batch.id).keys()
        site.simulator.recover()
        assert batch.wait(PATIENCE_S).succeeded == 200
    assert not is_out(site, "mini") or not is_out(site, "haiku")
    ledger.close()


def _states(ledger: Ledger, batch_id: str) -> Counter[str]:
    return Counter(row.state for row in ledger.tasks(batch_id))


def test_while_it_is_open_a_deployment_is_probed_by_one_call_at_a_time(site_with: SiteMaker) -> None:
    site = site_with(["mini"])
    # Longer than workers take to hear of each other.
    answers_after(site, 1_500)
    site.simulator.outage(kind="overloaded", seconds=None)
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        batch = client.submit_many(tickets(200))
        eventually(lambda: is_out(site, "mini"), PATIENCE_S)
        eventually(lambda: site.simulator.stats()["in_flight"] == 0, PATIENCE_S, every=0.01)
        calls = calls_of(site, "gpt-4o-mini")
        eventually(lambda: calls_of(site, "gpt-4o-mini") >= calls + 2, PATIENCE_S)
        probes = sorted(ledger.attempts(batch.id), key=lambda attempt: attempt.started_at)[calls:]
        gaps = [(later.started_at - one.started_at).total_seconds() for one, later in pairwise(probes)]
        assert min(gaps) >= 5
        site.simulator.recover()
        answers_after(site, 10)
        assert batch.wait(PATIENCE_S).succeeded == 200
    ledger.close()


def test_an_interactive_task_takes_the_next_permit_beside_a_large_batch(site_with: SiteMaker) -> None:
    site = site_with(["mini"], rpm=300, slots=200)
    ledger = Ledger(site)
    with Client(config=site.config) as client:
        large = client.submit_many(tickets(20_000))
        eventually(lambda: large.progress().done > 10, PATIENCE_S)
        waits = []
        for _ in range(5):
            handle = client.submit(intent(text="The app crashes", urgency="interactive"))
            (attempt,) = eventually(lambda id_=handle.id: ledger.attempts(id_), PATIENCE_S)
            (task,) = ledger.tasks(handle.id)
            waits.append((attempt.started_at - task.created_at).total_seconds())
        # The promise itself, by the database's clock.
        assert max(waits) < 2, waits
        assert site.simulator.stats()["by_outcome"].get("rate_limited", 0) == 0
        large.cancel()
    ledger.close()


def test_no_call_is_lost_or_made_twice_while_the_state_redis_is_gone(site_with: SiteMaker, tmp_path: Path) -> None:
    site = site_with(["mini"], rpm=3_000, workers=0)
    with fresh_redis(tmp_path) as state, Client(config=site.config) as client:
        for _ in range(WORKERS):
            site.start_worker("small", TIERQ_STATE_URL=f"unix://{state.socket}")
        batch = client.submit_many(tickets(600))
        eventually(lambda: batch.progress().done > 50, PATIENCE_S)
        state.kill()
        eventually(lambda: site.logs().count("the state Redis cannot be reached") == WORKERS, PATIENCE_S)
        done = batch.progress().done
        eventually(lambda: batch.progress().done > done + 100, PATIENCE_S)
        state.start()
        eventually(lambda: site.logs().count("the state Redis is back") == WORKERS, PATIENCE_S)
        assert batch.wait(PATIENCE_S).succeeded == 600
    assert site.logs().count("the state Redis cannot be reached") == WORKERS
    assert list(site.simulator.served().values()) == [1] * 600
