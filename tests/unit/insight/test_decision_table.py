"""The rules of a decision table say what the table says, by their first match."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tierq_insight.choosing import Choice, Place
from tierq_insight.decision_table import PROFILES, rules_of
from tierq_shared.policy import Signals
from tierq_shared.policy_document import RuleEvidence

EDGES = (250, 1_000, None)


def choice(tier: str) -> Choice:
    return Choice(Place(tier), RuleEvidence(verdict="because", samples=1, required=0.5))


columns = st.fixed_dictionaries(
    {
        profile: st.lists(st.sampled_from(["small", "medium", "large"]).map(choice), min_size=3, max_size=3)
        for profile in PROFILES
    }
)


@given(columns)
def test_the_first_match_decides_as_the_table_does(table: dict[tuple[str, str], list[Choice]]) -> None:
    rules = list(rules_of("classify", "intent", EDGES, table, lambda _profile, _places, one: one))  # type: ignore[arg-type]
    for (stakes, urgency), column in table.items():
        for edge, wanted in zip(EDGES, column, strict=True):
            signals = Signals("classify", "intent", edge or 10_000, stakes, urgency)  # type: ignore[arg-type]
            found = next(rule for rule in rules if rule.matches(signals))
            assert found.tier == wanted.place.tier


def test_one_answer_is_one_rule() -> None:
    table = {profile: [choice("small")] * 3 for profile in PROFILES}
    (rule,) = rules_of("classify", "intent", EDGES, table, lambda _profile, _places, one: one)
    assert (rule.tier, rule.max_input_tokens, rule.stakes, rule.urgency) == ("small", None, None, None)


def test_a_special_case_has_rules_only_up_to_where_it_differs() -> None:
    table = {profile: [choice("small")] * 3 for profile in PROFILES}
    for urgency in ("interactive", "standard", "relaxed"):
        table["high", urgency] = [choice("small"), choice("large"), choice("small")]  # type: ignore[index]
    rules = list(rules_of("classify", "intent", EDGES, table, lambda _profile, _places, one: one))
    assert [(rule.stakes, rule.max_input_tokens, rule.tier) for rule in rules] == [
        ("high", 250, "small"),
        ("high", 1_000, "large"),
        (None, None, "small"),
    ]
