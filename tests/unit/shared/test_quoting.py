"""Quotes: they come to the truth as the ledger grows, their bands hold, and what is not known is said."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from support.jobs import SETTINGS
from support.quoting import LearnedQuoter, Truth, calls, intent, quoted, really_costs, tally_of
from tierq import Answer, Classify, Extract, Generate, Quote
from tierq_shared import prices
from tierq_shared.active_policy import DocumentPolicy
from tierq_shared.errors import MissingExtra
from tierq_shared.policy_document import DocumentRule
from tierq_shared.quoting import cells
from tierq_shared.quoting.beliefs import Belief, Chance, Sample
from tierq_shared.quoting.history import History
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings

SPEC = intent.content
NOTHING = History()


def sizes_of(count: int, chance: random.Random) -> list[int]:
    return [chance.randint(5, 200) for _ in range(count)]


def tasks_of(sizes: list[int]) -> list[Any]:
    """Tasks whose decisions measure just these sizes: `{"text":"…"}` is 11 bytes around the text."""
    return [intent("x" * (size * 4 - 11)) for size in sizes]


def with_deployment(name: str, **fields: Any) -> Settings:
    content = SETTINGS.model_dump(exclude_none=True)
    content["deployments"][name] |= fields
    return Settings.model_validate(content)


def test_a_quote_comes_to_the_truth() -> None:
    chance = random.Random(7)
    truth = Truth(reasked=0.1)
    sizes = sizes_of(5_000, chance)
    history = History(calls(truth, SPEC, sizes_of(4_000, chance), chance), [SPEC])
    found = quoted(history, tasks_of(sizes))
    assert found.cost_nusd is not None
    assert abs(found.cost_error(really_costs(truth, sizes, chance)) or 1) < 0.02
    assert found.cost_nusd.high / found.cost_nusd.low < 1.12
    assert found.tiers["small"].learned_calls > 4_000
    assert found.notes == ("no live worker serves tier 'small': the time is that of one worker, once it is there",)


def test_a_few_calls_already_help() -> None:
    chance = random.Random(8)
    truth = Truth(tokens_a_byte=0.5, answer_tokens=60)
    sizes = sizes_of(500, chance)
    actual = really_costs(truth, sizes, chance)
    errors = [
        abs(
            quoted(History(calls(truth, SPEC, sizes_of(count, chance), chance), [SPEC]), tasks_of(sizes)).cost_error(
                actual
            )
            or 0
        )
        for count in (1, 20, 1_000)
    ]
    unlearned = abs(quoted(NOTHING, tasks_of(sizes)).cost_error(actual) or 0)
    assert unlearned > errors[0] > errors[2]
    assert errors[1] < 0.1
    assert errors[2] < 0.02


def test_four_in_five_lie_in_the_band() -> None:
    """Each batch has a truth of its own, as far off the ledger's as is assumed that runs of one spec differ."""
    chance = random.Random(9)
    history = History(calls(Truth(), SPEC, sizes_of(1_500, chance), chance), [SPEC])
    inside = 0
    for _ in range(150):
        sizes = sizes_of(40, chance)
        truth = Truth(0.31 * chance.gauss(1, 0.02), 9.0 * chance.gauss(1, 0.03))
        band = quoted(history, tasks_of(sizes)).cost_nusd
        assert band is not None
        inside += band.low <= really_costs(truth, sizes, chance) <= band.high
    assert 0.7 < inside / 150 < 0.95


def test_the_band_of_one_task_is_wider_than_that_of_many() -> None:
    chance = random.Random(10)
    history = History(calls(Truth(), SPEC, sizes_of(1_500, chance), chance), [SPEC])
    one, many = (quoted(history, tasks_of([50] * count)).cost_nusd for count in (1, 1_000))
    assert one is not None
    assert many is not None
    assert one.high / one.low > 1.2 > 1.1 > many.high / many.low > 1.02


def test_nothing_known_is_wide_and_said() -> None:
    found = quoted(NOTHING, tasks_of([50] * 100))
    assert found.cost_nusd is not None
    assert found.cost_nusd.low > 0
    assert found.cost_nusd.high > 2 * found.cost_nusd.low
    assert any("the ledger is empty" in note for note in found.notes)


def test_other_specs_of_the_type_teach_more_than_nothing() -> None:
    chance = random.Random(11)
    other = Classify.spec("other", labels=["a", "b"]).content
    truth = Truth(tokens_a_byte=0.5)
    history = History(calls(truth, other, sizes_of(500, chance), chance), [other])
    sizes = [150] * 200
    actual = really_costs(truth, sizes, chance)
    found = quoted(history, tasks_of(sizes))
    assert abs(found.cost_error(actual) or 1) < abs(quoted(NOTHING, tasks_of(sizes)).cost_error(actual) or 1)
    assert any("no call in the ledger is like those of tier 'small'" in note for note in found.notes)


def test_tiers_are_quoted_apart_and_add_up() -> None:
    tasks = [intent("a text"), intent("another"), Generate("A text.", stakes="high"), Answer("Why?", {"1": "So."})]
    found = quoted(
        NOTHING, [*tasks, Extract("Total 5.", schema={"type": "object", "properties": {"total": {"type": "number"}}})]
    )
    assert {name: tier.tasks for name, tier in found.tiers.items()} == {"small": 3, "medium": 1, "large": 1}
    assert found.tasks == 5
    assert found.tiers["large"].deployment == "pro"
    costs = [tier.cost_nusd for tier in found.tiers.values()]
    assert found.cost_nusd is not None
    assert abs(found.cost_nusd.expected - sum(cost.expected for cost in costs if cost)) <= 3


def test_an_unpriced_deployment_is_said_and_left_out() -> None:
    settings = with_deployment("pro", model="in-house")
    found = quoted(NOTHING, [intent("a text"), Generate("A text.", stakes="high")], settings)
    assert (found.unpriced_tasks, found.tiers["large"].cost_nusd) == (1, None)
    assert found.cost_nusd == found.tiers["small"].cost_nusd is not None
    assert any("no price is known for pro" in note for note in found.notes)
    alone = quoted(NOTHING, [Generate("A text.", stakes="high")], settings)
    assert alone.cost_nusd is None
    assert alone.cost_error(5) is None
    assert alone.seconds is not None


def test_a_producer_without_chains_gets_no_figures() -> None:
    found = quoted(NOTHING, [intent("a text")], Settings())
    assert (found.cost_nusd, found.seconds, found.unpriced_tasks) == (None, None, 1)
    assert any("names no deployment" in note for note in found.notes)


def test_nothing_costs_nothing() -> None:
    found = quoted(NOTHING, [])
    assert found.cost_nusd is not None
    assert (found.tasks, found.cost_nusd.high, found.tiers) == (0, 0, {})


def test_fail_over_goes_into_the_high_case_by_how_often_it_happened() -> None:
    content = SETTINGS.model_dump(exclude_none=True)
    content["tiers"]["small"]["chain"] = ["mini", "pro"]
    settings = Settings.model_validate(content)
    chance = random.Random(12)
    steady = calls(Truth(), SPEC, sizes_of(800, chance), chance)
    shaky = [*steady, *calls(Truth(), SPEC, sizes_of(200, chance), chance, name="pro")]
    sizes = [50] * 500
    calm, often = (quoted(History(groups, [SPEC]), tasks_of(sizes), settings) for groups in (steady, shaky))
    tier = often.tiers["small"]
    assert calm.cost_nusd is not None
    assert often.cost_nusd is not None
    assert tier.if_failed_over_nusd is not None
    share = (often.cost_nusd.expected - calm.cost_nusd.expected) / (tier.if_failed_over_nusd - calm.cost_nusd.expected)
    assert 0.17 < share < 0.23
    assert often.cost_nusd.high > often.cost_nusd.expected > calm.cost_nusd.high


def test_what_escalates_is_charged_on_both_tiers() -> None:
    chance = random.Random(13)
    sizes = [50] * 500
    still, rising = (
        quoted(History(calls(truth, SPEC, sizes_of(1_000, chance), chance), [SPEC]), tasks_of(sizes)).cost_nusd
        for truth in (Truth(), Truth(escalated=0.3))
    )
    assert still is not None
    assert rising is not None
    assert rising.expected > still.expected * 1.2
    pinned = [intent("x" * 189, tier="small") for _ in sizes]
    history = History(calls(Truth(escalated=0.3), SPEC, sizes_of(1_000, chance), chance), [SPEC])
    kept = quoted(history, pinned).cost_nusd
    assert kept is not None
    assert kept.expected < rising.expected / 1.2


def test_what_is_required_chooses_the_deployment() -> None:
    content = SETTINGS.model_dump(exclude_none=True)
    content["tiers"]["small"]["chain"] = ["mini", "pro"]
    found = quoted(NOTHING, [intent("a text", require={"region": "eu"})], Settings.model_validate(content))
    assert found.tiers["small"].deployment == "pro"


def test_the_providers_cache_lowers_the_low_case_alone() -> None:
    wide = Classify.spec("wide", labels=[f"label number {number}" for number in range(300)])
    plain, cached = (
        quoted(NOTHING, [wide("a text")] * 100, settings).cost_nusd
        for settings in (
            with_deployment("mini", price={"input": 1.0, "output": 1.0}),
            with_deployment("mini", price={"input": 1.0, "output": 1.0, "cached": 0.1}),
        )
    )
    assert plain is not None
    assert cached is not None
    assert (cached.expected, cached.high) == (plain.expected, plain.high)
    assert cached.low < plain.low / 2


def test_a_rate_limit_is_time() -> None:
    content = SETTINGS.model_dump(exclude_none=True)
    content["limits"] = {"openai": {"rpm": 60}}
    content["deployments"]["mini"]["limit"] = "openai"
    free = quoted(NOTHING, tasks_of([50] * 600))
    limited = quoted(NOTHING, tasks_of([50] * 600), Settings.model_validate(content))
    assert free.seconds is not None
    assert limited.seconds is not None
    assert free.seconds.expected < 60
    assert 600 <= limited.seconds.low <= limited.seconds.expected < 660


def test_a_quote_is_kept_as_json() -> None:
    found = quoted(
        NOTHING, [intent("a text"), Generate("A text.", stakes="high")], with_deployment("pro", model="none")
    )
    assert Quote.from_json(found.json()) == found


def test_memory_does_not_grow_with_the_tasks() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            assert tally_of(intent(f"{number} " + "x" * 4_000) for number in range(count)).tasks == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(2_000) < peak(200) + 200_000


def test_many_kinds_are_added_up_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MAX_CELLS", 5)
    tasks = [Classify(f"text {number}", labels=["a", f"b{number}"]) for number in range(30)]
    tally = tally_of(tasks)
    assert len(tally.cells) == 6
    assert tally.tasks == 30
    whole = Quoter(SETTINGS, None).quote(tally).cost_nusd
    apart = quoted(NOTHING, tasks[:5]).cost_nusd
    assert whole is not None
    assert apart is not None
    assert abs(whole.expected / 6 / apart.expected - 1) < 0.05


def test_a_price_list_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    prices._find.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install 'tierq\[quote\]'"):
        quoted(NOTHING, [intent("a text")])
    priced = with_deployment("mini", price={"input": 1.0, "output": 1.0})
    priced = Settings.model_validate({**priced.model_dump(exclude_none=True), "tiers": {"small": {"chain": ["mini"]}}})
    assert quoted(NOTHING, [intent("a text")], priced).cost_nusd is not None


def test_importing_tierq_loads_no_price_list() -> None:
    code = "import tierq, sys; print({'genai_prices', 'httpx', 'httpx2', 'statistics'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_beliefs_weigh_what_they_rest_on() -> None:
    belief = Belief(1.0, doubt=0.5, scatter=0.3)
    assert belief.after(None, 0.1) is belief
    little, much = (belief.after(Sample(count, 2.0, 0.3), 0.02) for count in (1, 10_000))
    assert 1.5 < little.value < much.value < 2.0
    assert little.doubt > much.doubt
    assert much.doubt == pytest.approx(0.02, rel=0.02)
    assert Chance(0.01, 10).after(30, 100).share == pytest.approx(0.274, abs=0.001)


CASCADED = Answer("Why?", {"1": "So."}, name="faq", tier="small")


def under_cascade(**rule: Any) -> Settings:
    """Cascades for `CASCADED`, whose answers gpt-4o-mini gives at 0.15 and 0.60 USD per million tokens."""
    return Settings.model_validate(
        {**SETTINGS.model_dump(exclude_none=True), "cascade": [{"type": "answer", "name": "faq", **rule}]}
    )


def test_samples_are_quoted_in_cost_and_time() -> None:
    tasks, settings = [CASCADED] * 300, under_cascade(signal="agreement", samples=4)
    plain, sampled = (quoted(NOTHING, tasks, one) for one in (SETTINGS, settings))
    assert plain.cost_nusd is not None
    assert sampled.cost_nusd is not None
    assert sampled.cost_nusd.expected == pytest.approx(4 * plain.cost_nusd.expected, rel=0.05)
    assert plain.seconds is not None
    assert sampled.seconds is not None
    assert sampled.seconds.expected > plain.seconds.expected
    other = [Answer("Why?", {"1": "So."}, tier="small")] * 300
    assert quoted(NOTHING, other, settings).cost_nusd == quoted(NOTHING, other).cost_nusd


def test_a_verifier_is_quoted_at_its_own_price() -> None:
    tasks = [CASCADED] * 100
    plain, verified = (
        quoted(NOTHING, tasks, one).cost_nusd for one in (SETTINGS, under_cascade(signal="verifier", verifier="pro"))
    )
    assert plain is not None
    assert verified is not None
    # 1,000 bytes of its own, the answer and the prompt are some 400 to 800 tokens at 1.25 USD a million.
    assert 100 * 500_000 < verified.expected - plain.expected < 100 * 1_500_000
    elsewhere = [Answer("Why?", {"1": "So."}, name="faq", tier="small", require={"region": "us"})] * 100
    assert quoted(NOTHING, elsewhere, under_cascade(signal="verifier", verifier="pro")).cost_nusd == plain


def test_an_unpriced_verifier_is_said() -> None:
    content = with_deployment("pro", model="in-house").model_dump(exclude_none=True)
    content["cascade"] = [{"type": "answer", "signal": "verifier", "verifier": "pro"}]
    found = quoted(NOTHING, [CASCADED], Settings.model_validate(content))
    assert found.cost_nusd is not None
    assert any("no price is known for pro" in note for note in found.notes)


def test_the_policy_says_which_deployment_comes_first() -> None:
    content = SETTINGS.model_dump(exclude_none=True)
    content["tiers"]["small"]["chain"] = ["mini", "pro"]
    settings = Settings.model_validate(content)
    policy = DocumentPolicy(
        [DocumentRule(type="classify", tier="small", chain=("pro", "mini")), DocumentRule(tier="large")],
        settings.tier_names,
        "v1",
    )
    texts = [f"text {number}" for number in range(50)]
    # All that the ledger knows ran in the tier's own order: that pro was not called then says nothing.
    chance = random.Random(14)
    history = History(calls(Truth(), SPEC, sizes_of(800, chance), chance), [SPEC])
    by_policy = LearnedQuoter(history, settings).quote(tally_of(map(intent, texts), settings, policy))
    own = quoted(history, map(intent, texts), settings)
    assert (own.tiers["small"].deployment, by_policy.tiers["small"].deployment) == ("mini", "pro")
    assert own.cost_nusd is not None
    assert by_policy.cost_nusd is not None
    assert by_policy.cost_nusd.expected > 5 * own.cost_nusd.expected
    pinned = tally_of((intent(text, tier="small") for text in texts), settings, policy)
    assert {cell.order for cell in pinned.cells.values()} == {()}
