"""The audit's sums: routed by the very policy, priced by what was logged, unknown prices said, memory flat."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tierq_insight.audit import Audit, AuditReport, Columns, Method, kinds, pricing
from tierq_insight.audit.auditing import SHOWN, Audited, Values
from tierq_insight.audit.pricing import Band
from tierq_insight.audit.report import LineKey, RuleReason
from tierq_shared.policy import PolicyRule
from tierq_shared.settings import Settings

SMALL, LARGE = {"input": 1, "output": 2}, {"input": 10, "output": 20}
RULES = [{"type": "classify", "max_input_tokens": 1_000, "tier": "small"}, {"tier": "large"}]


def settings(**changes: Any) -> Settings:
    """A small and a large tier with prices of their own, in USD per million tokens."""
    deployments = {
        "mini": {"provider": "openai", "model": "mini-model", "price": SMALL},
        "maxi": {"provider": "openai", "model": "maxi-model", "price": LARGE},
        "nobody": {"provider": "openai", "model": "nobody-knows-this-model"},
    }
    tiers = {"small": {"chain": ["mini"]}, "large": {"chain": ["maxi"]}}
    return Settings(**{"deployments": deployments, "tiers": tiers, "policy": RULES, **changes})


def row(text: str = "one text", *, model: str | None = "maxi-model", **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100}
    return {"type": "classify", "prompt": text, "model": model, "usage": usage, **more}


def audited(*rows: dict[str, Any] | str, model: str | None = None, **changes: Any) -> tuple[AuditReport, list[Audited]]:
    configured = settings(**changes)
    numbered: list[Values] = list(enumerate(rows, 1))
    told: list[Audited] = []
    method = Method(configured, configured.make_policy(), Columns(), model)
    return Audit(method, lambda: numbered).report(told.append), told


def test_a_call_that_moves_down_is_priced_on_both_sides() -> None:
    report, _ = audited(row())
    (key, line), *_ = report.ordered()
    assert key == LineKey("classify", 250, "small")
    assert line.spend.now_nusd == 1_000 * 10_000 + 100 * 20_000
    assert line.spend.there == Band(1_200_000, 1_200_000, 1_200_000)
    assert report.total.saving == Band(10_800_000, 10_800_000, 10_800_000)
    assert report.sources == {"logged": 1}


def test_hard_calls_are_expected_to_be_paid_twice_and_any_sign_makes_the_worst_case_so() -> None:
    small, both = 1_200_000, 1_200_000 + 12_000_000
    report, _ = audited(row("Why? And when?"))
    assert report.total.there == Band(small, small, both)
    report, _ = audited(row("Solve 3 + 4 = x. Why? And when?"))
    assert report.total.there == Band(small, both, both)
    assert report.total.saving == Band(-small, -small, 12_000_000 - small)


def test_cached_and_reasoning_tokens_make_the_range() -> None:
    usage = {
        "prompt_tokens": 1_000,
        "prompt_tokens_details": {"cached_tokens": 1_000},
        "completion_tokens": 100,
        "completion_tokens_details": {"reasoning_tokens": 60},
    }
    cheap_cache = {"provider": "openai", "model": "m", "price": {**SMALL, "cached": 0.1}}
    deployments = {"mini": cheap_cache, "maxi": {"provider": "openai", "model": "maxi-model", "price": LARGE}}
    report, _ = audited(row(usage=usage), deployments=deployments)
    # Reasoning tokens are a sign too, so the worst case pays the large tier as well.
    assert report.total.there == Band(100_000 + 80_000, 100_000 + 200_000, 1_000_000 + 200_000 + 12_000_000)


def test_what_goes_to_the_last_tier_stays_at_todays_cost_and_says_why() -> None:
    report, _ = audited(row("x " * 3_000), row(type="generate", model="mini-model"))
    assert report.total.there == Band(13_200_000, 13_200_000, 13_200_000)
    assert report.total.saving == Band(0, 0, 0)
    assert report.rules == {RuleReason("large", "rule 2: anything → large"): 2}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function"}]}, "offers tools"),
        ({}, "images or files"),
    ],
    ids=["tools", "images"],
)
def test_what_can_be_no_task_stays_as_it_is(request_: dict[str, Any], why: str) -> None:
    parts = [{"type": "text", "text": "Classify it."}] + ([] if request_ else [{"type": "image_url"}])
    report, (one,) = audited(row(messages=[{"role": "user", "content": parts}], **request_))
    assert why in one.decision.reason
    assert one.decision.tier == "large"
    assert report.total.saving == Band(0, 0, 0)


def test_every_decision_is_the_policys_own() -> None:
    rules = [PolicyRule(type="classify", name="intent", tier="large"), PolicyRule(tier="small")]
    configured = settings(policy=rules)
    policy = configured.make_policy()
    _, told = audited(row(name="intent"), row(name="other"), policy=rules)
    assert [one.decision.tier for one in told] == ["large", "small"]
    assert [policy.decide_by(one.decision.signals) for one in told] == [one.decision for one in told]
    assert {one.decision.policy_version for one in told} == {policy.version}


class TestUnknownPrices:
    def test_a_model_without_a_price_is_counted_and_never_0(self) -> None:
        report, (one, _) = audited(row(model="nobody-knows-this-model"), row())
        assert one.cost.now_nusd is None
        total = report.total
        assert (total.calls, total.now_unpriced, total.compared) == (2, 1, 1)
        assert total.compared_now_nusd == 12_000_000
        assert report.models["nobody-knows-this-model"].unpriced == 1

    def test_nothing_is_compared_where_the_model_is_not_known(self) -> None:
        report, _ = audited(row(model=None))
        assert report.total.saving is None
        assert report.total.there.expected == 1_200_000
        assert list(report.models) == [None]

    def test_the_model_that_the_user_names_holds_where_the_log_is_silent(self) -> None:
        report, _ = audited(row(model=None), row(model="mini-model"), model="maxi-model")
        assert {name: one.calls for name, one in report.models.items()} == {"maxi-model": 1, "mini-model": 1}

    def test_a_tier_without_a_price_is_not_compared_either(self) -> None:
        report, _ = audited(row(), tiers={"small": {"chain": ["nobody"]}, "large": {"chain": ["maxi"]}})
        assert (report.total.there_unpriced, report.total.saving) == (1, None)
        assert report.unpriced_deployments == ["nobody"]
        assert report.priced_by == {"small": None, "large": "maxi-model"}

    @pytest.mark.parametrize("model", ["gpt-4o", "openai/gpt-4o", "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"])
    def test_list_prices_are_found_by_the_models_name(self, model: str) -> None:
        report, _ = audited(row(model=model))
        assert report.total.now_unpriced == 0
        assert report.total.now_nusd > 0


def test_where_counts_are_from_is_said() -> None:
    bare = {"type": "classify", "prompt": "x" * 400, "model": "maxi-model"}
    report, (by_text, assumed) = audited({**bare, "output": "billing!"}, bare)
    assert report.sources == {"from text": 1, "assumed": 1}
    assert (by_text.tokens.usage.input_tokens, by_text.tokens.usage.output_tokens) == (100, 2)
    assert assumed.tokens.usage.output_tokens == 10


def test_bad_rows_are_counted_the_first_ones_are_listed_and_the_rest_is_audited() -> None:
    rows: list[dict[str, Any] | str] = [row() if n % 10 else {"type": "classify"} for n in range(100)]
    report, _ = audited("is broken JSON", *rows)
    assert (report.total.calls, report.bad) == (90, 11)
    assert [one.line for one in report.findings] == [1, 2, 12, 22, 32][:SHOWN]
    assert str(report.findings[0]) == "is broken JSON"


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "MAX_MODELS", 20)
    monkeypatch.setattr(kinds, "MAX_KINDS", 20)
    configured = settings()

    def rows(count: int) -> Iterator[Values]:
        for n in range(count):
            yield n, {"prompt": f"{n} what" * 300, "system": f"At {n % 40}", "output": f"{n} words", "model": f"m{n}"}

    def peak(count: int) -> int:
        tracemalloc.start()
        Audit(Method(configured, configured.make_policy()), lambda: rows(count)).report()
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(50)  # what is loaded and cached once
    assert peak(800) < 800_000, "a third of what the rows' texts alone would take"
