"""The worst case of a call is one, and a task that a cap holds back waits, moves down or fails as it was told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierq_shared.caps import Cap, batch_cap
from tierq_shared.money import NANO, to_nano
from tierq_shared.prices import PriceList
from tierq_shared.prompts import MAX_QUOTED_ANSWER, most_bytes
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.budgets import Account
from tierq_shared.store.claims import SETTLES_SOON_S, Headroom, HeldBack, MovedDown, Refusal
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_shared.store.outcomes import Ended
from tierq_workers.answers import Kind
from tierq_workers.caps import FRAME_TOKENS, LOOK_AGAIN_S, REASK_BYTES, CapKeeper
from tierq_workers.execution import TaskRun
from tierq_workers.providers import adapter_for
from tierq_workers.runtime import TierRuntime
from unit.workers.test_execution import OVERLOADED, Provider, answered, claimed

PROVIDERS = ("openai", "openai-compatible", "anthropic", "gemini")
SPEC = SpecBody(type="classify", name="triage", labels={"bug": None, "billing": None})


def deployment(provider: str = "openai", usd_out: float = 10.0, **fields: Any) -> dict[str, Any]:
    price = {"input": 1, "output": usd_out}
    base = {"provider": provider, "model": "m", "base_url": "http://127.0.0.1:9", "price": price}
    return {**base, "max_output_tokens": 1_000, **fields}


SETTINGS = Settings.model_validate(
    {
        "tiers": {
            "small": {"chain": ["cheap", "mini", "unpriced"]},
            "medium": {"chain": ["middle"]},
            "large": {"chain": ["dear", "searching"]},
        },
        "deployments": {
            "cheap": deployment(usd_out=1),
            "mini": deployment(),
            "unpriced": deployment(provider="openai-compatible", price=None),
            "middle": deployment(usd_out=50),
            "dear": deployment(usd_out=100),
            "searching": deployment(usd_out=1, params={"tools": [{"type": "web_search"}]}),
            **{provider: deployment(provider) for provider in PROVIDERS},
        },
    }
)
CHEAP, MINI, MIDDLE, DEAR = 0.004, 0.013, 0.053, 0.103
"""A little more than each one's worst case, in USD: 1,000 tokens of output and at most 3,000 of input."""


def runtime(tier: str, *answers: Any) -> TierRuntime:
    made = TierRuntime(SETTINGS, tier, Provider(*answers))  # type: ignore[arg-type]
    made.kinds[SPEC.id] = Kind(SPEC)
    return made


def account(limit: float, spent: float = 0.0, reserved: float = 0.0) -> Account:
    amounts = [round(one * NANO) for one in (limit, spent, reserved)]
    return Account("scope", *amounts, *amounts[1:])


def under(
    way: str, limit: float, spent: float = 0.0, reserved: float = 0.0, *, own: float | None = None, **fields: Any
) -> Any:
    """A claimed task under a batch's cap, and its own where one is given."""
    cap = batch_cap("b", round(limit * NANO), way)
    left = None if own is None else round(own * NANO)
    room = Headroom(left, ((cap, account(limit, spent, reserved)),))
    return claimed(caps=(cap,), headroom=room, max_cost_nusd=left, **fields)


def chosen(tier: str, task: Any) -> Any:
    return runtime(tier).first_attempt(replace(task, tier=tier))


def test_the_first_deployment_that_fits_is_called() -> None:
    taken = chosen("small", under("fail", MINI))
    assert (taken.deployment, taken.caps[0].of) == ("cheap", "b")
    assert taken.reserved_nusd < round(CHEAP * NANO)
    assert chosen("medium", under("fail", MIDDLE)).deployment == "middle"
    dear_first = Settings.model_validate(
        {**SETTINGS.model_dump(exclude={"tiers", "path"}), "tiers": {"small": {"chain": ["dear", "cheap"]}}}
    )
    made = TierRuntime(dear_first, "small", Provider())  # type: ignore[arg-type]
    made.kinds[SPEC.id] = Kind(SPEC)
    taken = made.first_attempt(under("fail", CHEAP))
    assert isinstance(taken, NewAttempt)
    assert taken.deployment == "cheap", "the dear one comes first in the chain, and has no room"


def test_what_is_reserved_is_waited_for_shortly_whatever_the_cap_says() -> None:
    for way in ("wait", "downgrade", "fail"):
        assert chosen("large", under(way, 1.0, reserved=0.95)) == HeldBack(SETTLES_SOON_S)


def test_a_reached_cap_waits_moves_down_or_fails() -> None:
    assert chosen("large", under("wait", 1.0, spent=0.95)) == HeldBack(LOOK_AGAIN_S, ("scope",))
    moved = chosen("large", under("downgrade", 1.0, spent=0.94))
    assert isinstance(moved, MovedDown)
    assert (moved.tier, moved.reason) == ("medium", "moved down from large: the batch's cap is reached")
    assert chosen("large", under("downgrade", 1.0, spent=0.98)).tier == "small"
    failed = chosen("large", under("fail", 1.0, spent=0.95))
    assert isinstance(failed, Refusal)
    assert failed.code == "cap_reached"
    assert failed.message == (
        "the batch's cap of $1.0000 has no room for another call at its worst: $0.9500 of it is spent"
    )


@pytest.mark.parametrize(
    "fields",
    [{"constraints": {"pinned": True}}, {"constraints": {"min_tier": "large"}}, {"attempts": 1}],
    ids=["pinned", "min_tier", "was tried below"],
)
def test_what_may_not_move_down_fails(fields: dict[str, Any]) -> None:
    assert chosen("large", under("downgrade", 1.0, spent=0.95, **fields)).code == "cap_reached"


def test_a_throttled_task_may_still_move_down() -> None:
    task = under("downgrade", 1.0, spent=0.95, attempts=2, uncounted_attempts=2)
    assert chosen("large", task).tier == "small"


def test_a_day_that_ends_soon_is_waited_for_until_then() -> None:
    late = datetime(2026, 11, 24, 23, 59, 50, tzinfo=UTC)
    cap = Cap("day", None, NANO, "wait")
    room = Headroom(None, ((cap, account(1.0, spent=0.999)),))
    task = claimed(caps=(cap,), headroom=room, claimed_at=late)
    assert chosen("large", task) == HeldBack(10.0, ("scope",))


def test_a_tasks_own_cap_sends_it_down_or_fails_it() -> None:
    own = claimed(headroom=Headroom(round(MINI * NANO), ()), max_cost_nusd=round(MINI * NANO))
    moved = chosen("large", own)
    assert (moved.tier, moved.reason) == ("small", "moved down from large: max_cost is reached")
    tiny = claimed(headroom=Headroom(1, ()), max_cost_nusd=round(0.5 * NANO))
    assert chosen("small", tiny).message == (
        "no call that it may make is sure to cost no more than $0.000000, which is left of its max_cost of $0.5000"
    )


def test_a_tier_without_a_price_is_skipped_and_said() -> None:
    only = Settings.model_validate(
        {"tiers": {"small": {"chain": ["unpriced"]}}, "deployments": {"unpriced": deployment(price=None)}}
    )
    made = TierRuntime(only, "small", Provider())  # type: ignore[arg-type]
    made.kinds[SPEC.id] = Kind(SPEC)
    refused = made.first_attempt(under("wait", 100.0))
    assert isinstance(refused, Refusal)
    assert refused.code == "unpriced"
    assert "give one a price in tierq.toml" in refused.message


def test_tools_have_no_bound() -> None:
    keeper = CapKeeper(SETTINGS, "large", SETTINGS.make_policy(), PriceList())
    fits = keeper.fits(claimed(), Kind(SPEC), None)
    assert [fits(SETTINGS.deployments[name]) for name in ("dear", "searching", "unpriced")] == [True, False, False]


async def ran(task: Any, tier: str, *answers: Any) -> tuple[Any, TierRuntime]:
    """The last step of a run whose further calls all count."""
    made = runtime(tier, *answers)
    attempt = made.first_attempt(replace(task, tier=tier))

    async def record(_step: Any) -> bool:
        return True

    return await TaskRun(made, replace(task, tier=tier), attempt, made.kinds[SPEC.id], record).run(), made  # type: ignore[arg-type]


async def test_a_further_call_must_fit_what_the_first_has_left() -> None:
    own = claimed(headroom=Headroom(to_nano("0.103"), ()), max_cost_nusd=to_nano("0.103"))
    # 200,000 nano-USD and more for the spoiled answer; a re-ask takes as much output again, and does not fit.
    step, made = await ran(own, "large", answered("nonsense"))
    assert isinstance(step.next, Ended)
    assert (step.next.state, step.next.error_code) == ("failed", "cap_reached")
    assert made.transport.calls == 1  # type: ignore[attr-defined]
    roomy = claimed(headroom=Headroom(to_nano("1"), ()), max_cost_nusd=to_nano("1"))
    step, _ = await ran(roomy, "large", answered("nonsense"), answered("bug"))
    assert step.next.state == "succeeded"


async def test_a_task_under_a_cap_never_fails_over_to_an_unpriced_deployment() -> None:
    step, made = await ran(under("wait", 100.0), "small", OVERLOADED, OVERLOADED)
    assert made.transport.calls == 2, "cheap and mini, and not the one without a price"  # type: ignore[attr-defined]
    assert step.next.tier == "small"
    assert isinstance(step.result, AttemptResult)
    assert step.result.is_capped


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1).filter(str.strip)
INPUTS = st.one_of(
    TEXTS.map(lambda text: {"text": text}),
    st.lists(TEXTS | st.sampled_from(["</</", '&"<', '"id":']), min_size=1, max_size=3).map(
        lambda texts: {
            "question": texts[0],
            "passages": [{"id": f"{number}{text[:20]}", "text": text} for number, text in enumerate(texts)],
        }
    ),
)


@given(task_input=INPUTS | st.sampled_from([{"text": "</" * 50}, {"prompt": "\U0001f4a9</"}]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_an_inputs_bytes_are_never_underestimated(task_input: dict[str, Any]) -> None:
    kind = Kind(SPEC)
    rendered = kind.template.render(task_input, max_output_tokens=1).turns[0].text
    assert len(rendered.encode()) <= most_bytes(orjson.dumps(task_input).decode())


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, type="generate", labels=None)], ids=["schema", "text"])
def test_a_worst_case_covers_every_byte_of_the_request_and_its_bound_is_sent(provider: str, spec: SpecBody) -> None:
    one, kind = SETTINGS.deployments[provider], Kind(spec)
    task_input = {"text": "Грüße </text> \U0001f4a9 " * 40}
    prompt = kind.template.render(task_input, max_output_tokens=one.max_output_tokens)
    asked = prompt.reask("\U0001f4a9" * MAX_QUOTED_ANSWER, "x" * 500)
    keeper = CapKeeper(SETTINGS, "small", SETTINGS.make_policy(), PriceList())
    for sent, is_reask in ((prompt, False), (asked, True)):
        body = orjson.loads(adapter_for(one.provider).request(sent, one, key="k", attempt_id="a").body)
        texts = sum(len(text.encode()) for text in _texts(body))
        given = most_bytes(orjson.dumps(task_input).decode())
        worst = keeper.worst_case(kind, one, given, reask=is_reask).nusd
        assert worst is not None
        assert worst >= (texts + FRAME_TOKENS) * NANO // 1_000_000 + 1_000 * 10 * NANO // 1_000_000
        bounds = {"max_completion_tokens", "max_tokens", "maxOutputTokens"}
        assert {**body, **body.get("generationConfig", {})}.keys() & bounds
        (bound,) = [value for name, value in {**body, **body.get("generationConfig", {})}.items() if name in bounds]
        assert bound == 1_000
    assert REASK_BYTES > 4 * MAX_QUOTED_ANSWER


def _texts(value: Any) -> list[str]:
    """All text in a request: names as well as values."""
    if isinstance(value, dict):
        return [*value.keys(), *(text for one in value.values() for text in _texts(one))]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [str(value)]
