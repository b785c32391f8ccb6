"""When a rule has drifted, and the version that comes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tierq_shared.drift import has_drifted, moved_up, next_version, tier_above
from tierq_shared.intervals import mean_interval
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence

AT = datetime(2030, 1, 1, tzinfo=UTC)
NEEDS_90 = RuleEvidence(verdict="derived", samples=100, quality=0.95, lower=0.91, upper=0.98, required=0.9)
RULE = DocumentRule(tier="small", type="classify", chain=("mini",), evidence=NEEDS_90)
DOCUMENT = PolicyDocument(
    version="v1", created_at=AT, tiers=("small", "medium", "large"), policy=(RULE, DocumentRule(tier="large"))
)


@pytest.mark.parametrize(
    ("right", "drifted"), [(95, False), (90, False), (85, False), (84, True), (82, True), (50, True)]
)
def test_a_rule_has_drifted_when_even_the_upper_end_is_too_low(right: int, drifted: bool) -> None:
    assert has_drifted(RULE, mean_interval([1.0] * right + [0.0] * (100 - right))) is drifted


def test_nothing_is_required_of_a_rule_without_evidence() -> None:
    stays = RuleEvidence(verdict="too little data", samples=3)
    for rule in (DocumentRule(tier="small"), DocumentRule(tier="small", evidence=stays)):
        assert not has_drifted(rule, mean_interval([0.0] * 100))


def test_a_drifted_rule_moves_one_tier_up_and_says_why() -> None:
    later = AT.replace(year=2031)
    moved = moved_up(DOCUMENT, 0, mean_interval([1.0] * 80 + [0.0] * 20), "v1-drift-1", later)
    rule = moved.policy[0]
    assert (moved.version, moved.created_at, moved.policy[1:]) == ("v1-drift-1", later, DOCUMENT.policy[1:])
    assert (rule.tier, rule.chain, rule.conditions) == ("medium", None, "type=classify")
    assert rule.evidence is not None
    assert rule.evidence.verdict == (
        "drift: 0.800 [0.711, 0.867] of 100 live answers on small agree with the next tier's, "
        "below the required 0.900: moved up to medium"
    )
    assert (rule.evidence.samples, rule.evidence.required, rule.evidence.source) == (100, 0.9, "live")
    assert moved.note == f"v1, with rule 1 (type=classify) moved up. {rule.evidence.verdict}"


def test_there_is_nothing_above_the_last_tier() -> None:
    assert [tier_above(DOCUMENT, DocumentRule(tier=tier)) for tier in DOCUMENT.tiers] == ["medium", "large", None]
    with pytest.raises(ValueError, match="rule 2 of policy version v1 cannot move up"):
        moved_up(DOCUMENT, 1, mean_interval([0.0]), "v2", AT)


def test_versions_of_drift_are_counted() -> None:
    assert next_version("v1", ["v1"]) == "v1-drift-1"
    assert next_version("v1-drift-1", ["v1", "v1-drift-1"]) == "v1-drift-2"
    long = "x" * 100
    assert next_version(long, [long]) == "x" * 80 + "-drift-1"
    assert PolicyDocument(**{**DOCUMENT.model_dump(), "version": next_version(long, [])})
