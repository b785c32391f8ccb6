"""The policy: rules, pins and bounds, and the reason that each decision gives."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tierq.intake import Intake
from tierq_shared.errors import InvalidTask
from tierq_shared.policy import DEFAULT_RULES, Decision, Policy, PolicyRule, signals_of
from tierq_shared.settings import Settings
from tierq_shared.tasks import Answer, Classify, Extract, Generate, Task

TIERS = ["small", "medium", "large"]
SCHEMA = {"type": "object", "properties": {"number": {"type": "string"}}}
DEFAULT = Policy(DEFAULT_RULES, TIERS)


def classify(**options: Any) -> Task[Any]:
    return Classify("It crashes.", ["bug", "billing"], **options)


def decide(*rules: PolicyRule, input_bytes: int = 40, **options: Any) -> Decision:
    return Policy(rules, TIERS).decide(classify(**options), input_bytes)


# Rules.


def test_the_first_rule_that_matches_decides() -> None:
    decision = decide(PolicyRule(type="extract", tier="large"), PolicyRule(tier="medium"), PolicyRule(tier="small"))
    assert (decision.tier, decision.reason) == ("medium", "rule 2: anything → medium")


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"type": "classify"}, True),
        ({"type": "answer"}, False),
        ({"name": "triage"}, True),
        ({"name": "other"}, False),
        ({"stakes": "high"}, True),
        ({"stakes": "normal"}, False),
        ({"urgency": "relaxed"}, True),
        ({"urgency": "standard"}, False),
        ({"max_input_tokens": 10}, True),
        ({"max_input_tokens": 9}, False),
        ({"type": "classify", "name": "triage", "stakes": "high", "urgency": "relaxed", "max_input_tokens": 10}, True),
        ({"type": "classify", "name": "triage", "stakes": "high", "urgency": "relaxed", "max_input_tokens": 9}, False),
    ],
)
def test_every_condition_of_a_rule_must_hold(condition: dict[str, Any], matches: bool) -> None:
    decision = decide(PolicyRule(**condition, tier="small"), name="triage", stakes="high", urgency="relaxed")
    assert (decision.tier == "small") is matches


def test_what_no_rule_matches_goes_to_the_last_tier() -> None:
    decision = decide(PolicyRule(type="answer", tier="small"))
    assert (decision.tier, decision.reason) == ("large", "no rule matches: the last tier")
    assert decide().tier == "large"


@pytest.mark.parametrize(
    "fields", [{}, {"tier": "small", "typ": "classify"}, {"tier": "small", "max_input_tokens": 0}, {"tier": None}]
)
def test_a_rule_that_says_what_no_rule_can_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicyRule(**fields)


def test_a_decision_says_which_rule_and_which_policy() -> None:
    rule = PolicyRule(type="classify", max_input_tokens=20, tier="small")
    decision = decide(rule)
    assert decision.reason == "rule 1: type=classify max_input_tokens=20 → small"
    assert decision.policy_version == Policy([rule], TIERS).version
    assert orjson.loads(decision.signals.json()) == {
        "type": "classify",
        "name": "classify",
        "input_tokens": 10,
        "stakes": "normal",
        "urgency": "standard",
    }


def test_a_version_is_of_the_rules_and_the_tiers() -> None:
    rules = [PolicyRule(type="classify", tier="small"), PolicyRule(tier="large")]
    same, *others = (
        Policy(rules, TIERS),
        Policy(rules[::-1], TIERS),
        Policy(rules[1:], TIERS),
        Policy(rules, TIERS[::-1]),
    )
    assert same.version == Policy(list(rules), tuple(TIERS)).version
    assert len({one.version for one in (same, *others)}) == 4
    assert same.version.startswith("config-")


@pytest.mark.parametrize(("input_bytes", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (16_000, 4_000), (16_001, 4_001)])
def test_four_bytes_are_a_token_rounded_up(input_bytes: int, tokens: int) -> None:
    assert signals_of(classify(), input_bytes).input_tokens == tokens


# Pins and bounds.


def test_a_pin_wins_over_every_rule() -> None:
    decision = decide(PolicyRule(tier="small"), tier="large")
    assert (decision.tier, decision.reason) == ("large", "pinned by the task")


@pytest.mark.parametrize(
    ("bounds", "tier", "reason"),
    [
        ({"min_tier": "large"}, "large", "rule 1: anything → medium; raised to min_tier large"),
        ({"max_tier": "small"}, "small", "rule 1: anything → medium; lowered to max_tier small"),
        ({"min_tier": "small", "max_tier": "large"}, "medium", "rule 1: anything → medium"),
        ({"min_tier": "medium", "max_tier": "medium"}, "medium", "rule 1: anything → medium"),
        ({"min_tier": "large", "max_tier": "large"}, "large", "rule 1: anything → medium; raised to min_tier large"),
    ],
)
def test_bounds_move_what_the_rules_decided(bounds: dict[str, str], tier: str, reason: str) -> None:
    decision = decide(PolicyRule(tier="medium"), **bounds)
    assert (decision.tier, decision.reason) == (tier, reason)


def test_bounds_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InvalidTask, match=r"^field 'min_tier': min_tier 'large' is above max_tier 'small'$"):
        decide(PolicyRule(tier="medium"), min_tier="large", max_tier="small")


@pytest.mark.parametrize("field", ["tier", "min_tier", "max_tier"])
def test_a_tier_that_is_not_there_is_refused(field: str) -> None:
    with pytest.raises(InvalidTask, match=rf"^field '{field}': there is no tier 'tiny'; the tiers are small, medium"):
        decide(PolicyRule(tier="small"), **{field: "tiny"})


@given(
    st.lists(st.builds(PolicyRule, tier=st.sampled_from(TIERS), max_input_tokens=st.none() | st.integers(1, 20))),
    st.integers(0, 100),
    st.sampled_from(TIERS),
    st.sampled_from(TIERS),
)
def test_a_decision_is_always_inside_its_bounds(rules: list[PolicyRule], size: int, one: str, other: str) -> None:
    low, high = sorted([one, other], key=TIERS.index)
    decision = decide(*rules, input_bytes=size, min_tier=low, max_tier=high)
    assert TIERS.index(low) <= TIERS.index(decision.tier) <= TIERS.index(high)


# The default rules.

MAKERS: dict[str, Any] = {
    "classify": classify,
    "extract": lambda **options: Extract("x", SCHEMA, **options),
    "answer": lambda **options: Answer("x", {"a": "y"}, **options),
    "generate": lambda **options: Generate("x", **options),
}


@pytest.mark.parametrize(
    ("type_", "tokens", "options", "tier"),
    [
        ("classify", 4_000, {}, "small"),
        ("classify", 4_001, {}, "large"),
        ("classify", 1, {"stakes": "high"}, "large"),
        ("extract", 2_000, {}, "small"),
        ("extract", 2_001, {}, "medium"),
        ("extract", 100_000, {}, "medium"),
        ("answer", 8_000, {}, "medium"),
        ("answer", 8_001, {}, "large"),
        ("answer", 1, {"stakes": "low"}, "medium"),
        ("generate", 2_000, {"stakes": "low"}, "small"),
        ("generate", 2_001, {"stakes": "low"}, "medium"),
        ("generate", 8_000, {}, "medium"),
        ("generate", 8_001, {}, "large"),
        ("generate", 1, {"stakes": "high", "urgency": "relaxed"}, "large"),
    ],
)
def test_short_and_simple_work_goes_down(type_: str, tokens: int, options: dict[str, Any], tier: str) -> None:
    assert DEFAULT.decide(MAKERS[type_](**options), tokens * 4).tier == tier


# Escalation.


@pytest.mark.parametrize(
    ("tier", "max_tier", "expected"),
    [
        ("small", None, "medium"),
        ("medium", None, "large"),
        ("large", None, None),
        ("small", "small", None),
        ("small", "medium", "medium"),
        ("medium", "medium", None),
        ("gone", None, None),
    ],
)
def test_the_next_tier_is_the_one_above_that_the_task_may_use(
    tier: str, max_tier: str | None, expected: str | None
) -> None:
    assert DEFAULT.next_tier(tier, max_tier) == expected


# What the producer asks it.


def intake(*rules: PolicyRule) -> Intake:
    return Intake(Settings(), Policy(rules, TIERS), lambda: datetime(2030, 1, 1, tzinfo=UTC), None)


def test_a_task_is_measured_in_bytes_not_in_characters() -> None:
    text = "日本" * 10
    prepared = intake(PolicyRule(tier="small")).prepare(Generate(text), 0)
    size = len(f'{{"prompt":"{text}"}}'.encode())
    assert size > 60
    assert prepared.decision.signals.input_tokens == -(-size // 4)


def test_tags_of_any_mapping_are_written() -> None:
    prepared = intake(PolicyRule(tier="small")).prepare(classify(tags=MappingProxyType({"team": "a"})), 0)
    assert prepared.tags == '{"team":"a"}'
