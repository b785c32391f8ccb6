"""Versions of the policy: kept as they are, activated, rolled back; and what decides by them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tierq_shared.active_policy import ActivePolicy
from tierq_shared.errors import PolicyRefused
from tierq_shared.policy import Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.settings import Settings
from tierq_shared.store import policies
from tierq_shared.store.tables import policies as policy_table
from tierq_shared.tasks import Classify, Extract, Task
from unit.store.installation import Installation

AT = datetime(2030, 1, 1, tzinfo=UTC)
CONFIGURED = Settings.model_validate(
    {
        "tiers": {"small": {"chain": ["mini", "haiku"]}, "medium": {"chain": ["haiku"]}, "large": {"chain": ["pro"]}},
        "deployments": {name: {"provider": "openai", "model": name} for name in ("mini", "haiku", "pro")},
    }
)


def document(version: str = "v1", *rules: DocumentRule, **fields: Any) -> PolicyDocument:
    return PolicyDocument(
        version=version,
        created_at=AT,
        tiers=("small", "medium", "large"),
        policy=rules or (DocumentRule(tier="small"),),
        **fields,
    )


def put(here: Installation, *documents: PolicyDocument) -> None:
    for one in documents:
        here.store.write(lambda connection, one=one: policies.store(connection, one))


def activate(here: Installation, version: str, reason: str = "applied by a test") -> None:
    here.store.write(lambda connection: policies.activate(connection, version, reason))


def roll_back(here: Installation) -> str | None:
    return here.store.write(lambda connection: policies.roll_back(connection, "a test"))


def active(here: Installation) -> str | None:
    return here.read(policies.active_version)


def test_a_version_is_kept_as_it_is(here: Installation) -> None:
    rule = DocumentRule(tier="small", type="classify", name="intent", chain=("haiku", "mini"))
    full = document("2026-11.1", rule, DocumentRule(tier="large"), note="why")
    assert here.store.write(lambda connection: policies.store(connection, full))
    assert not here.store.write(lambda connection: policies.store(connection, full))
    assert here.read(policies.get, "2026-11.1") == full
    with pytest.raises(PolicyRefused, match="stored already, with other content"):
        put(here, document("2026-11.1"))
    assert here.read(policies.get, "2026-11.1") == full


@pytest.mark.parametrize("version", ["config", "active", "config-0a1b2c3d"])
def test_names_with_a_meaning_are_refused(here: Installation, version: str) -> None:
    with pytest.raises(PolicyRefused, match="no version may be called"):
        put(here, document(version))


def test_the_latest_activation_counts(here: Installation) -> None:
    put(here, document("v1"), document("v2"))
    assert active(here) is None
    activate(here, "v1")
    activate(here, "v2")
    assert active(here) == "v2"
    activate(here, "v1")
    assert active(here) == "v1"
    listed = here.read(policies.stored)
    assert {(one.version, one.activations, one.is_active) for one in listed} == {("v1", 2, True), ("v2", 1, False)}
    assert [one.version for one in here.read(policies.activations)] == ["v1", "v2", "v1"]


def test_what_is_not_stored_cannot_be_active(here: Installation) -> None:
    put(here, document("2026-11.1"))
    with pytest.raises(PolicyRefused, match=r"did you mean '2026-11\.1'"):
        activate(here, "2026-11.l")
    assert active(here) is None


def test_rolling_back_goes_one_further_back_each_time(here: Installation) -> None:
    put(here, document("v1"), document("v2"), document("v3"))
    for version in ("v1", "v2", "v3"):
        activate(here, version)
    assert [roll_back(here), roll_back(here)] == ["v2", "v1"]
    activate(here, "v3")
    assert [roll_back(here), roll_back(here)] == ["v1", None]
    assert active(here) is None
    with pytest.raises(PolicyRefused, match="nothing to roll back to"):
        roll_back(here)
    assert here.read(policies.activations)[0].reason == "rolled back by a test, from v1"


def test_the_configurations_own_policy_can_be_put_in_force_again(here: Installation) -> None:
    put(here, document("v1"))
    activate(here, "v1")
    activate(here, policies.CONFIG)
    assert active(here) is None
    assert roll_back(here) == "v1"


TASKS: list[Task[Any]] = [
    Classify("a", labels=["x", "y"], name=name, stakes=stakes, urgency=urgency)
    for name in ("intent", "other")
    for stakes in ("low", "high")
    for urgency in ("interactive", "relaxed")
] + [Extract("a", schema={"type": "object", "properties": {"n": {"type": "number"}}})]

RULES = st.builds(
    DocumentRule,
    tier=st.sampled_from(["small", "medium", "large"]),
    type=st.sampled_from([None, "classify", "extract"]),
    name=st.sampled_from([None, "intent"]),
    max_input_tokens=st.sampled_from([None, 10, 1_000]),
    stakes=st.sampled_from([None, "high"]),
    urgency=st.sampled_from([None, "relaxed"]),
    chain=st.sampled_from([None, ("haiku", "mini")]),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(RULES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_rolling_back_restores_decisions_exactly(here: Installation, versions: list[list[DocumentRule]]) -> None:
    here.clear()
    read = ActivePolicy(CONFIGURED, here.store, fresh_s=0.0)
    seen = [_decisions(read)]
    for number, rules in enumerate(versions):
        put(here, document(f"v{number}", *rules))
        activate(here, f"v{number}")
        seen.append(_decisions(read))
    for before in reversed(seen[:-1]):
        roll_back(here)
        assert _decisions(read) == before
        assert _decisions(ActivePolicy(CONFIGURED, here.store)) == before


def _decisions(read: ActivePolicy) -> list[Any]:
    policy = read.current()
    decisions = [policy.decide(task, size) for task in TASKS for size in (10, 2_000, 100_000)]
    orders = [policy.order(one.signals, "small") for one in decisions]
    return [decisions, orders, policy.next_tier("small")]


def test_a_new_version_is_seen_when_the_old_one_is_no_longer_fresh(here: Installation) -> None:
    slow, quick = (ActivePolicy(CONFIGURED, here.store, fresh_s=span) for span in (60.0, 0.0))
    assert slow.current().version == quick.current().version == CONFIGURED.make_policy().version
    put(here, document("v1"))
    activate(here, "v1")
    assert (slow.current().version, quick.current().version) == (CONFIGURED.make_policy().version, "v1")
    assert quick.current() is quick.current(), "a document is read once"


def test_a_tier_that_is_not_configured_here_leaves_the_configurations_policy_in_force(
    here: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    put(here, document("v1", DocumentRule(tier="huge")))
    activate(here, "v1")
    read = ActivePolicy(CONFIGURED, here.store, fresh_s=0.0)
    assert {read.current().version for _ in range(3)} == {CONFIGURED.make_policy().version}
    (record,) = caplog.records
    assert record.message == (
        "policy version v1 goes to tiers that this process's configuration does not have (huge); "
        "the configuration's own policy holds here instead"
    )


def test_a_document_of_another_release_leaves_the_configurations_policy_in_force(
    here: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    put(here, document("v1"))
    activate(here, "v1")
    here.set(policy_table, document='{"version": "v1", "later": true}')
    read = ActivePolicy(CONFIGURED, here.store, fresh_s=0.0)
    assert read.current().version == CONFIGURED.make_policy().version
    assert "cannot be read by this release" in caplog.text


def test_a_producer_that_knows_only_the_urls_goes_by_the_documents_tiers(here: Installation) -> None:
    put(here, document("v1", DocumentRule(tier="medium")).model_copy(update={"tiers": ("medium", "huge")}))
    activate(here, "v1")
    policy = ActivePolicy(Settings(), here.store).current()
    assert (policy.version, policy.tiers, policy.next_tier("medium")) == ("v1", ["medium", "huge"], "huge")


def test_a_rule_orders_the_chain_of_its_own_tier_alone(here: Installation) -> None:
    ordered = DocumentRule(tier="small", type="classify", chain=("haiku", "mini"))
    put(here, document("v1", ordered, DocumentRule(tier="medium")))
    activate(here, "v1")
    policy = ActivePolicy(CONFIGURED, here.store).current()
    classify, extract = (Signals(type_, "any", 5, "normal", "standard") for type_ in ("classify", "extract"))
    assert policy.order(classify, "small") == ("haiku", "mini")
    assert policy.order(classify, "medium") == policy.order(extract, "small") == ()
    assert (policy.orders("small"), policy.orders("medium")) == ({(), ("haiku", "mini")}, {()})
    assert policy.decide(TASKS[0], 5).reason == "rule 1: type=classify → small"
