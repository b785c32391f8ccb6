"""Which tier the evidence speaks for, and when it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tierq_insight.derivation import Ground, Wanted, derive
from tierq_insight.evidence import Evidence
from tierq_shared.policy import PolicyRule, Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from unit.insight.samples import TIERS, answers, flat

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ALL_LARGE = [PolicyRule(tier="large")]
ABSOLUTE = {"classify": 0.85}


def derived(evidence: Sequence[Evidence], ground: Ground | None = None, **wanted: Any) -> PolicyDocument:
    return derive(evidence, ground or Ground(TIERS, ALL_LARGE), Wanted(**wanted), NOW)


def decided(
    document: PolicyDocument, tokens: int = 100, stakes: Any = "normal", urgency: Any = "standard", name: str = "intent"
) -> DocumentRule:
    signals = Signals("classify", name, tokens, stakes, urgency)
    return next(rule for rule in document.policy if rule.matches(signals))


GOOD = flat(answers("small", 60, 40), answers("medium", 95, 5), answers("large", 97, 3))


def test_the_cheapest_tier_whose_lower_bound_clears() -> None:
    document = derived(GOOD, qualities=ABSOLUTE)
    rule = decided(document)
    assert rule.tier == "medium"
    assert rule.evidence is not None
    assert rule.evidence.samples == 100
    assert rule.evidence.quality == 0.95
    assert rule.evidence.lower == pytest.approx(0.8882, abs=1e-4)
    assert rule.evidence.required == 0.85
    assert rule.evidence.cost_usd_per_1000 == 0.005
    assert (rule.evidence.p50_ms, rule.evidence.p95_ms) == (100, 100)
    assert "small has 0.502" in rule.evidence.verdict


def test_a_mean_that_clears_is_not_enough() -> None:
    evidence = flat(answers("small", 27, 3), answers("large", 99, 1))
    assert decided(derived(evidence, qualities=ABSOLUTE)).tier == "large"
    more = flat(answers("small", 270, 30), answers("large", 99, 1))
    assert decided(derived(more, qualities=ABSOLUTE)).tier == "small"


def test_too_little_data_stays_where_it_is_and_says_so() -> None:
    evidence = flat(answers("small", 29), answers("large", 29))
    for current in TIERS:
        rule = decided(derived(evidence, Ground(TIERS, [PolicyRule(tier=current)]), qualities=ABSOLUTE))
        assert rule.tier == current
        assert rule.evidence is not None
        assert f"too little data (29 of 30 samples): stays on {current}" in rule.evidence.verdict
        assert (rule.evidence.quality, rule.evidence.required) == (None, 0.85)
        against_baseline = decided(derived(evidence, Ground(TIERS, [PolicyRule(tier=current)]))).evidence
        assert against_baseline is not None
        assert against_baseline.required is None, "there is nothing yet to take it from"


def test_nothing_moves_up_without_evidence_against_where_it_is() -> None:
    evidence = answers("large", 100)
    rule = decided(derived(evidence, Ground(TIERS, [PolicyRule(tier="small")]), qualities=ABSOLUTE))
    assert rule.tier == "small"
    assert rule.evidence is not None
    assert "too little data on small" in rule.evidence.verdict


def test_evidence_against_the_current_tier_moves_it_up() -> None:
    rule = decided(derived(GOOD, Ground(TIERS, [PolicyRule(tier="small")]), qualities=ABSOLUTE))
    assert rule.tier == "medium"


def test_where_no_tier_clears_the_highest_lower_bound_decides() -> None:
    rule = decided(derived(GOOD, qualities={"classify": 0.99}))
    assert rule.tier == "large"
    assert rule.evidence is not None
    assert "no tier's lower bound clears 0.990" in rule.evidence.verdict


def test_without_a_quality_the_baseline_is_what_to_reach_on_the_same_samples() -> None:
    alike = flat(answers("small", 190, 10), answers("large", 190, 10))
    assert decided(derived(alike, margin=0.05)).tier == "small"
    assert decided(derived(alike, margin=0.001)).tier == "large"
    worse = flat(answers("small", 160, 40), answers("large", 190, 10))
    rule = decided(derived(worse, margin=0.05))
    assert rule.tier == "large"
    assert rule.evidence is not None
    assert rule.evidence.required == pytest.approx(0.95 - 0.05)


def test_only_pairs_count_against_the_baseline() -> None:
    strangers = [Evidence(**{**_fields(one), "sample": f"other {one.sample}"}) for one in answers("small", 100)]
    rule = decided(derived(flat(strangers, answers("large", 100)), margin=0.05))
    assert rule.tier == "large"


def _fields(one: Evidence) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Evidence.__slots__}


def test_a_quality_for_a_name_goes_before_that_of_its_type() -> None:
    document = derived(GOOD, qualities={"classify": 0.5, "classify/intent": 0.85})
    assert decided(document).tier == "medium"
    assert decided(derived(GOOD, qualities={"classify": 0.5, "classify/other": 0.85})).tier == "small"


def test_failed_answers_count_as_wrong_and_are_charged() -> None:
    small = flat(answers("small", 90), answers("small", 10, input_tokens=101, failed=True, cost_nusd=11_000))
    rule = decided(derived(flat(small, answers("large", 100)), qualities={"classify": 0.8}))
    assert rule.tier == "small"
    assert rule.evidence is not None
    assert (rule.evidence.quality, rule.evidence.failure_rate) == (0.9, 0.1)
    assert rule.evidence.cost_usd_per_1000 == pytest.approx((90 * 1_000 + 10 * 11_000) / 100 * 1_000 / 1e9)


def test_an_unknown_price_is_not_free() -> None:
    """The tiers' own order decides then, and the cost is said to be unknown."""
    evidence = flat(answers("small", 100), answers("medium", 100, cost_nusd=None), answers("large", 100))
    rule = decided(derived(evidence, qualities=ABSOLUTE))
    assert rule.tier == "small"
    only = flat(answers("medium", 100, cost_nusd=None), answers("large", 100))
    rule = decided(derived(only, qualities=ABSOLUTE))
    assert rule.tier == "medium"
    assert rule.evidence is not None
    assert rule.evidence.cost_usd_per_1000 is None
    assert "unknown price" in rule.evidence.verdict


def test_the_measured_cost_decides_not_the_tiers_order() -> None:
    evidence = flat(answers("small", 100, cost_nusd=9_000), answers("medium", 100), answers("large", 100))
    assert decided(derived(evidence, qualities=ABSOLUTE)).tier == "medium"


def test_of_equal_costs_the_lower_tier_is_taken() -> None:
    evidence = flat(*(answers(tier, 100, cost_nusd=1_000) for tier in TIERS))
    assert decided(derived(evidence, qualities=ABSOLUTE)).tier == "small"


def test_a_sample_answered_twice_counts_once() -> None:
    evidence = answers("small", 20) * 5
    rule = decided(derived(evidence, qualities=ABSOLUTE))
    assert rule.tier == "large"
    assert rule.evidence is not None
    assert rule.evidence.samples == 20


CHAINS = {"small": ["mini", "haiku", "local"], "large": ["maxi"]}
PAIR = flat(
    answers("small", 96, 4, deployment="mini", cost_nusd=2_000, latency_ms=50),
    answers("small", 98, 2, deployment="haiku", cost_nusd=1_000, latency_ms=500),
    answers("small", 40, 60, deployment="local", cost_nusd=10, latency_ms=5),
)


@pytest.mark.parametrize(
    ("order", "chain"),
    [
        ("cost", ("haiku", "mini", "local")),
        ("latency", ("mini", "haiku", "local")),
        ("success", ("haiku", "mini", "local")),
    ],
)
def test_the_chain_is_ordered_and_what_does_not_clear_comes_last(order: str, chain: tuple[str, ...]) -> None:
    rule = decided(derived(PAIR, Ground(CHAINS, ALL_LARGE), qualities=ABSOLUTE, order=order))
    assert (rule.tier, rule.chain) == ("small", chain)


def test_what_was_not_measured_stays_in_the_chain() -> None:
    known = [one for one in PAIR if one.deployment == "haiku"]
    rule = decided(derived(known, Ground(CHAINS, ALL_LARGE), qualities=ABSOLUTE))
    assert rule.chain == ("haiku", "mini", "local")


def test_evidence_on_a_deployment_that_is_gone_is_left_out() -> None:
    document = derived(answers("small", 100, deployment="retired"), qualities=ABSOLUTE)
    assert [rule.tier for rule in document.policy] == ["large"]


def test_high_stakes_are_stricter() -> None:
    document = derived(GOOD, qualities=ABSOLUTE)
    assert decided(document, stakes="high").tier == "large"
    high = [rule for rule in document.policy if rule.stakes == "high"]
    assert high
    assert document.policy.index(high[0]) < document.policy.index(decided(document))
    assert high[0].evidence is not None
    assert high[0].evidence.required == pytest.approx(0.925)


def test_high_stakes_one_tier_up_or_no_difference() -> None:
    assert decided(derived(GOOD, qualities={"classify": 0.5}, high_stakes="tier-up"), stakes="high").tier == "medium"
    same = derived(GOOD, qualities={"classify": 0.5}, high_stakes="same")
    assert decided(same, stakes="high").tier == "small"
    assert not [rule for rule in same.policy if rule.stakes]


def test_high_stakes_need_no_rule_of_their_own_where_they_do_not_differ() -> None:
    document = derived(flat(answers("small", 400), answers("large", 400)), qualities=ABSOLUTE)
    assert not [rule for rule in document.policy if rule.stakes]


def test_what_is_too_slow_is_no_choice_for_interactive_tasks() -> None:
    evidence = flat(answers("small", 100, latency_ms=9_000), answers("medium", 100), answers("large", 100))
    document = derived(evidence, qualities=ABSOLUTE, interactive_p95_ms=1_000)
    assert decided(document).tier == "small"
    rule = decided(document, urgency="interactive")
    assert rule.tier == "medium"
    assert rule.evidence is not None
    assert "not mini: 9,000 ms" in rule.evidence.verdict


def test_where_all_are_too_slow_the_general_answer_holds() -> None:
    evidence = flat(*(answers(tier, 100, latency_ms=9_000) for tier in TIERS))
    document = derived(evidence, qualities=ABSOLUTE, interactive_p95_ms=1_000)
    assert decided(document, urgency="interactive").tier == "small"


def test_neighbouring_sizes_with_the_same_answer_are_one_rule_with_all_their_samples() -> None:
    evidence = flat(
        *(answers(tier, 100, input_tokens=size) for tier in TIERS for size in (100, 500)),
        answers("small", 10, 90, input_tokens=2_000),
        *(answers(tier, 100, input_tokens=2_000) for tier in ("medium", "large")),
    )
    document = derived(evidence, qualities=ABSOLUTE, high_stakes="same")
    rows = [(rule.max_input_tokens, rule.tier, rule.evidence.samples) for rule in document.policy if rule.evidence]
    assert rows == [(1_000, "small", 200), (4_000, "medium", 100)]


def test_sizes_beyond_the_evidence_keep_the_active_rules() -> None:
    current = [PolicyRule(type="classify", max_input_tokens=8_000, tier="medium"), PolicyRule(tier="large")]
    document = derived(GOOD, Ground(TIERS, current), qualities={"classify": 0.5})
    assert decided(document, 200).tier == "small"
    assert decided(document, 300).tier == "medium"
    assert decided(document, 9_000).tier == "large"
    assert decided(document, 200, name="another").tier == "medium"


def test_sizes_without_data_below_others_stay_by_the_active_rules_bounds() -> None:
    """A rule has an upper bound only: what lies below it needs rows of its own."""
    current = [PolicyRule(type="classify", max_input_tokens=100, tier="medium"), PolicyRule(tier="large")]
    evidence = flat(*(answers(tier, 100, input_tokens=500) for tier in TIERS))
    document = derived(evidence, Ground(TIERS, current), qualities=ABSOLUTE)
    assert [decided(document, size).tier for size in (100, 101, 250, 251, 1_000, 1_001)] == [
        "medium",
        "large",
        "large",
        "small",
        "small",
        "large",
    ]


def test_staying_keeps_what_the_active_rules_say_of_stakes_and_urgency() -> None:
    current = [
        PolicyRule(stakes="high", tier="large"),
        PolicyRule(urgency="relaxed", tier="small"),
        PolicyRule(tier="medium"),
    ]
    document = derived(answers("small", 5), Ground(TIERS, current))
    for urgency in ("interactive", "standard", "relaxed"):
        assert decided(document, stakes="high", urgency=urgency).tier == "large"
    assert decided(document, urgency="relaxed").tier == "small"
    assert decided(document, stakes="low").tier == "medium"


def test_deriving_again_from_the_same_evidence_changes_nothing() -> None:
    first = derived(GOOD, qualities=ABSOLUTE)
    again = derived(GOOD, Ground(TIERS, first.policy), qualities=ABSOLUTE)
    assert again.policy == first.policy
    assert again.version == first.version


def test_the_version_changes_with_the_rules() -> None:
    assert derived(GOOD, qualities=ABSOLUTE).version != derived(GOOD, qualities={"classify": 0.5}).version


EASY_AND_HARD = flat(
    answers("small", 190, 10, name="easy"),
    answers("large", 188, 12, name="easy"),
    answers("small", 100, 100, name="hard"),
    answers("large", 190, 10, name="hard"),
)


def test_a_spending_goes_where_it_buys_most() -> None:
    document = derived(EASY_AND_HARD, spend=0.55)
    assert [decided(document, name=name).tier for name in ("easy", "hard")] == ["small", "large"]
    assert document.note is not None
    assert "cheaper than the large tier" in document.note


def test_a_spending_that_pays_for_nothing_better_says_what_each_row_loses() -> None:
    document = derived(EASY_AND_HARD, spend=0.05)
    rule = decided(document, name="hard")
    assert rule.tier == "small"
    assert rule.evidence is not None
    assert "against the baseline -0.450" in rule.evidence.verdict
    assert rule.evidence.required == rule.evidence.lower, "what live answers are held to later"
    assert decided(document, name="hard", stakes="high").tier == "large"


def test_a_plan_leaves_out_what_has_too_little_data_or_no_price() -> None:
    unknown = flat(answers("small", 50, cost_nusd=None), answers("large", 50, cost_nusd=None))
    for evidence in (flat(answers("small", 5), answers("large", 5)), unknown):
        document = derived(evidence, spend=0.5)
        assert decided(document).tier == "large"
        assert document.note == "too little data for a plan: nothing moves"


def test_in_a_plan_the_other_sizes_speak_for_a_size_with_few_samples() -> None:
    few = flat(answers("small", 3, input_tokens=500, name="easy"), answers("large", 3, input_tokens=500, name="easy"))
    document = derived([*EASY_AND_HARD, *few], spend=0.55)
    assert decided(document, 500, name="easy").tier == "small"
    row_by_row = derived([*EASY_AND_HARD, *few], margin=0.05)
    assert decided(row_by_row, 200, name="easy").tier == "small"
    assert decided(row_by_row, 500, name="easy").tier == "large"


def test_a_plan_compares_only_what_answered_the_same_samples() -> None:
    strangers = [Evidence(**{**_fields(one), "sample": f"other {one.sample}"}) for one in answers("small", 100)]
    document = derived(flat(strangers, answers("large", 100)), spend=0.5)
    assert decided(document).tier == "large"


def test_where_the_baseline_costs_nothing_there_is_no_plan() -> None:
    document = derived(flat(answers("small", 100), answers("large", 100, cost_nusd=0)), spend=0.5)
    assert decided(document).tier == "large"
    assert document.note == "too little data for a plan: nothing moves"
