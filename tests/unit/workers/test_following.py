"""A worker follows the active policy, and draws the answers that are to be shadowed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from tierq_shared.ids import new_id
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.queues import Chunk
from tierq_shared.settings import Settings
from tierq_shared.store import policies
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import tasks
from tierq_workers.answers import Kind
from tierq_workers.chain import Escalate
from tierq_workers.execution import TaskRun
from tierq_workers.following import Following, draw_of
from tierq_workers.runtime import PermittedAttempt, TierRuntime
from unit.store.installation import SPEC, Installation, new_task
from unit.workers.test_execution import Provider, claimed


def settings(**shadow: Any) -> Settings:
    names = {"mini": None, "other": "eu", "upper": "us", "top": "eu"}
    return Settings.model_validate(
        {
            "tiers": {
                "small": {"chain": ["mini", "other"]},
                "medium": {"chain": ["upper"]},
                "large": {"chain": ["top"]},
            },
            "deployments": {
                name: {"provider": "openai", "model": name, "region": region} for name, region in names.items()
            },
            "shadow": shadow,
        }
    )


class Here:
    """A runtime of the small tier over a store, and what it published."""

    def __init__(self, store: Store, tier: str = "small", **shadow: Any) -> None:
        self.runtime = TierRuntime(settings(**shadow), tier, Provider())  # type: ignore[arg-type]
        self.runtime.kinds[SPEC.id] = Kind(SPEC)
        self.published: list[Chunk] = []
        self.following = Following(settings(**shadow), store, self.runtime, self._at_once, self.published.extend)
        self.installation = Installation(store)

    @staticmethod
    async def _at_once(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    def first(self, **fields: Any) -> str:
        attempt = self.runtime.first_attempt(claimed(**fields))
        assert isinstance(attempt, PermittedAttempt)
        return attempt.deployment

    async def shadow(self, *ids: str) -> list[Any]:
        """Shadows that come of tasks which have succeeded."""
        for id_ in ids:
            self.following.succeeded(id_)
        await self.following._send_shadows()
        return self.installation.rows(tasks, tasks.c.shadow_of.is_not(None), order=tasks.c.position)

    def submit(self, **constraints: Any) -> str:
        given = orjson.dumps(constraints).decode() if constraints else None
        return self.installation.ids(self.installation.submit([new_task("K", constraints=given)]))[0]


@pytest.fixture
def store(here: Installation) -> Store:
    return here.store


def apply(store: Store, version: str, *rules: DocumentRule) -> None:
    document = PolicyDocument(
        version=version, created_at=datetime.now(UTC), tiers=("small", "medium", "large"), policy=rules
    )
    store.write(lambda connection: policies.store(connection, document))
    store.write(lambda connection: policies.activate(connection, version, "applied by a test"))


async def test_a_rules_chain_orders_the_deployments_of_the_tasks_that_it_decides(store: Store) -> None:
    here = Here(store)
    apply(store, "v1", DocumentRule(tier="small", stakes="high", urgency="standard", chain=("other", "mini")))
    high = {"stakes": "high"}
    assert here.first(constraints=high) == "mini", "not yet read"
    await here.following.refresh()
    assert here.first(constraints=high) == "other"
    assert here.first() == here.first(constraints=high, urgency="relaxed") == "mini"
    assert here.first(constraints=high | {"pinned": True}) == "mini", "a pinned task has nothing to do with the policy"
    store.write(lambda connection: policies.roll_back(connection, "a test"))
    await here.following.refresh()
    assert here.first(constraints=high) == "mini"


async def test_a_chain_of_deployments_that_this_worker_does_not_know_calls_none_of_them(store: Store) -> None:
    here = Here(store)
    apply(store, "v1", DocumentRule(tier="small", chain=("stranger", "upper", "other")))
    await here.following.refresh()
    assert here.first() == "other"


async def test_an_escalation_goes_by_the_active_version_and_names_it(store: Store) -> None:
    here = Here(store)
    apply(store, "v1", DocumentRule(tier="small"))
    await here.following.refresh()
    task = claimed(constraints={"stakes": "high"})
    attempt = here.runtime.first_attempt(task)
    assert isinstance(attempt, PermittedAttempt)
    run = TaskRun(here.runtime, task, attempt, Kind(SPEC), _never)
    following: Any = run._escalated(Escalate("too_long", "why"))
    assert (following.tier, following.policy_version) == ("medium", "v1")
    assert orjson.loads(following.signals) == {
        "type": "classify",
        "name": "triage",
        "input_tokens": 6,
        "stakes": "high",
        "urgency": "standard",
    }


async def _never(_step: Any) -> bool:
    raise AssertionError("nothing is recorded here")


async def test_while_the_store_cannot_be_read_the_last_version_holds(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    here = Here(store)
    apply(store, "v1", DocumentRule(tier="small"))
    await here.following.refresh()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tierq_policy_activation RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING, "tierq.worker"):
        await here.following.refresh()
    assert here.runtime.policy.version == "v1"
    assert caplog.messages == ["the active policy could not be read (OperationalError); v1 holds"]


# Shadows.


def test_draws_are_even_and_a_tasks_own() -> None:
    ids = [new_id() for _ in range(4_000)]
    draws = [draw_of(id_) for id_ in ids]
    assert draws == [draw_of(id_) for id_ in ids]
    for share in (0.01, 0.25, 0.5):
        # Five standard deviations of a binomial count.
        margin = 5 * (share * (1 - share) * len(ids)) ** 0.5
        assert abs(sum(draw < share for draw in draws) - share * len(ids)) < margin


async def test_none_is_shadowed_unless_asked_for_and_none_of_the_last_tier(store: Store) -> None:
    for here in (Here(store), Here(store, "large", share=1.0)):
        assert await here.shadow(here.submit()) == []
        assert here.published == []


async def test_all_that_are_drawn_go_to_the_next_tier_that_may_have_them(store: Store) -> None:
    here = Here(store, share=1.0)
    plain = here.submit(max_tier="small")
    eu, mars = (here.submit(require={"region": region}) for region in ("eu", "mars"))
    found = await here.shadow(plain, eu, mars)
    assert [(row.shadow_of, row.tier) for row in found] == [(plain, "medium"), (eu, "large")]
    assert sorted(chunk.tier for chunk in here.published) == ["large", "medium"]


async def test_a_share_of_its_own_for_a_type_or_a_name(store: Store) -> None:
    for shares, counted in (({"classify": 0.0}, 0), ({"triage": 1.0, "classify": 0.0}, 1), ({"extract": 1.0}, 0)):
        here = Here(store, shares=shares)
        found = await here.shadow(id_ := here.submit())
        assert sum(row.shadow_of == id_ for row in found) == counted


async def test_a_store_that_refuses_costs_samples_and_no_more(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    here = Here(store, share=1.0)
    id_ = here.submit()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tierq_chunk RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING, "tierq.worker"):
        here.following.succeeded(id_)
        await here.following._send_shadows()
    assert caplog.messages == ["1 tasks were not shadowed (OperationalError)"]
    with store.reading() as connection:
        assert connection.execute(select(tasks.c.id).where(tasks.c.shadow_of.is_not(None))).all() == []
