"""Versions of the policy and real processes: who follows a version that is applied, and what shadows come to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from conftest import SiteMaker
from support.command import tierq
from support.servers import Site
from support.waiting import eventually
from tierq import Classify, Client, Outcome
from tierq_shared.store import policies
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import batches, decisions, evidence, tasks

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

POLICY = """
version = "2026-11.1"
created_at = 2026-11-24T02:00:00Z
tiers = ["small", "medium", "large"]
[[policy]]
type = "classify"
tier = "small"
chain = ["flash", "haiku", "mini"]
[[policy]]
tier = "large"
"""


def decided_by(site: Site, outcome: Outcome[str]) -> str:
    """The version of the policy that a task's decision names."""
    store = Store(site.database_url)
    try:
        with store.reading() as connection:
            version = select(decisions.c.policy_version).where(decisions.c.task_id == outcome.task_id)
            return str(connection.execute(version).scalar_one())
    finally:
        store.close()


def one_task(client: Client) -> Outcome[str]:
    outcome = client.submit(intent("My invoice is wrong")).wait(timeout=30)
    assert outcome.ok
    return outcome


def seen(client: Client, site: Site) -> tuple[str | None, str]:
    """Which deployment a fresh task is put to first, and the version that decided it."""
    outcome = one_task(client)
    return outcome.deployment, decided_by(site, outcome)


def roll_back(site: Site) -> None:
    store = Store(site.database_url)
    store.write(lambda connection: policies.roll_back(connection, "a test"))
    store.close()


def test_an_applied_version_reaches_a_running_producer_and_worker_and_so_does_its_end(site_on: SiteMaker) -> None:
    site = site_on("postgresql")
    site.start_worker("small")
    (site.folder / "policy.toml").write_text(POLICY)
    with Client(config=site.config) as client:
        configured = one_task(client)
        assert configured.deployment == "mini"
        applied = tierq(site.folder, "policy", "apply", "policy.toml")
        assert applied.returncode == 0, applied.stderr
        # The producer and the worker hear of it each by itself.
        eventually(lambda: seen(client, site) == ("flash", "2026-11.1"), 20)
        roll_back(site)
        eventually(lambda: seen(client, site) == ("mini", decided_by(site, configured)), 20)


def test_answers_are_repeated_on_the_next_tier_and_become_evidence(site_on: SiteMaker) -> None:
    site = site_on(extra='[shadow]\nshare = 1.0\njudge_every = "200ms"\n[worker]\nsweep_every = "100ms"')
    for tier in ("small", "medium"):
        site.start_worker(tier)
    with Client(config=site.config) as client:
        batch = client.submit_many(intent(f"My invoice {number} is wrong", max_tier="small") for number in range(20))
        ids = {outcome.task_id for outcome in batch.as_completed(timeout=30)}
        store = Store(site.database_url)
        try:
            eventually(lambda: {row.task_id for row in _read(store, evidence)} == ids, 30)
            assert {(row.source, row.tier, row.deployment) for row in _read(store, evidence)} == {
                ("shadow", "small", "mini")
            }
            shadows = [row for row in _read(store, tasks) if row.shadow_of]
            assert {(row.shadow_of in ids, row.tier, row.state) for row in shadows} == {(True, "medium", "succeeded")}
            assert all(row.cost_nusd for row in shadows), "they are charged like any other"
            assert {row.label for row in _read(store, batches) if row.id != batch.id} == {"shadow"}
            assert batch.progress().total == 20
        finally:
            store.close()


def _read(store: Store, table: Any) -> list[Any]:
    with store.reading() as connection:
        return list(connection.execute(select(table)))
