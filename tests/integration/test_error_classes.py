"""The table of error classes, row by row, over sockets: what becomes of the task, of its attempts, of the next task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.chains import PATIENCE_S, PROVIDERS, Chain, Stage, intent, stage_in
from support.ledger import Ledger
from support.servers import Site
from tierq import Client

Fault = dict[str, Any]


each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_in(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


# rate_limited: the deployment rests for as long as it says, and who may leave it goes by urgency.

SPELLINGS = [
    (provider, spelling)
    for provider in PROVIDERS
    for spelling in ({}, {"retry_as": "seconds"}, {"retry_as": "ms"}, {"retry_as": "date"}, {"should_retry": False})
]


@pytest.mark.parametrize(("provider", "spelling"), SPELLINGS)
def test_a_throttled_task_waits_as_long_as_it_is_told_in_whatever_spelling(
    stage: Stage, provider: str, spelling: Fault
) -> None:
    chain = stage.chain(provider, first={"kind": "rate_limited", "retry_after_s": 30, **spelling})
    handle = chain.submit()
    assert 30 <= chain.waits_s(handle) < 60
    (attempt,) = stage.ledger.attempts(handle.id)
    assert (attempt.outcome, attempt.http_status, attempt.cost_nusd) == ("rate_limited", 429, 0)
    assert chain.rests()
    handle.cancel()


@each_provider
def test_however_long_a_provider_asks_for_we_look_again_after_two_minutes(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, first={"kind": "rate_limited", "retry_after_s": 3_600})
    handle = chain.submit()
    assert 120 <= chain.waits_s(handle) < 150
    handle.cancel()


@each_provider
def test_a_throttled_deployment_is_called_again_after_its_rest(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, first={"kind": "rate_limited", "retry_after_s": 1, "first": 1})
    outcome = chain.run(urgency="relaxed")
    first, second = stage.ledger.attempts(outcome.batch_id)
    assert [first.outcome, second.outcome] == ["rate_limited", "succeeded"]
    assert first.deployment == second.deployment == chain.model()
    assert (second.started_at - first.started_at).total_seconds() >= 1
    assert (first.cost_nusd, second.cost_nusd) == (0, outcome.cost_nusd)


@each_provider
def test_interactive_work_leaves_a_throttled_deployment_at_once(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, first={"kind": "rate_limited", "retry_after_s": 60})
    assert chain.calls_of(chain.run(urgency="interactive")) == [
        ("first", "rate_limited", 429),
        ("next", "succeeded", 200),
    ]
    assert chain.rests()


def test_standard_work_leaves_a_throttled_deployment_once_it_has_waited(stage: Stage) -> None:
    chain = stage.chain("openai", kind="lenient", first={"kind": "rate_limited", "retry_after_s": 1})
    outcome = chain.run(tier="medium")
    *throttled, last = stage.ledger.attempts(outcome.batch_id)
    assert {(one.deployment, one.outcome) for one in throttled} == {(chain.model(), "rate_limited")}
    assert (last.deployment, last.outcome) == (chain.model("next"), "succeeded")
    assert (last.started_at - outcome.created_at).total_seconds() >= 2


def test_relaxed_work_never_leaves_a_throttled_deployment(stage: Stage) -> None:
    chain = stage.chain("openai", kind="lenient", first={"kind": "rate_limited", "retry_after_s": 1, "first": 3})
    outcome = chain.run(urgency="relaxed", tier="medium")
    *throttled, last = chain.calls_of(outcome)
    assert set(throttled) == {("first", "rate_limited", 429)}
    assert last == ("first", "succeeded", 200)
    assert outcome.finished_at is not None
    assert (outcome.finished_at - outcome.created_at).total_seconds() >= 2


# quota_exhausted: everybody takes the next deployment, this one rests long, the operator is told.

QUOTAS: list[tuple[str, Fault, int]] = [
    ("openai", {"kind": "quota"}, 429),
    ("openai-compatible", {"kind": "quota"}, 429),
    ("openai-compatible", {"kind": "invalid_request", "status": 402}, 402),
    ("anthropic", {"kind": "quota"}, 402),
    ("anthropic", {"kind": "quota", "status": 400}, 400),
    ("gemini", {"kind": "quota"}, 429),
]


@pytest.mark.parametrize(("provider", "fault", "status"), QUOTAS)
def test_an_exhausted_quota_sends_everybody_to_the_next_deployment(
    stage: Stage, provider: str, fault: Fault, status: int
) -> None:
    # It rests whatever it is told about coming again: the account has to be paid first.
    chain = stage.chain(provider, first={**fault, "retry_after_s": 0})
    outcome = chain.run(urgency="relaxed")
    assert chain.calls_of(outcome) == [("first", "quota_exhausted", status), ("next", "succeeded", 200)]
    assert stage.ledger.attempts(outcome.batch_id)[0].cost_nusd == 0
    assert chain.calls_of(chain.run(urgency="relaxed")) == [("next", "succeeded", 200)]


@pytest.mark.parametrize("kind", ["quota", "auth"])
def test_the_operator_is_told_which_deployment_is_out(stage: Stage, kind: str) -> None:
    chain = stage.chain("openai", first={"kind": kind})
    chain.run()
    assert chain.model() in stage.site.logs()


# overloaded: the next deployment, for this task alone.

OVERLOADED: list[tuple[Fault, int]] = [
    ({"kind": "server_error"}, 500),
    ({"kind": "html_error", "status": 502}, 502),
    ({"kind": "overloaded", "status": 503}, 503),
    ({"kind": "overloaded", "status": 504}, 504),
    ({"kind": "overloaded", "status": 529}, 529),
    ({"kind": "invalid_request", "should_retry": True}, 400),
]


@each_provider
@pytest.mark.parametrize(("fault", "status"), OVERLOADED)
def test_an_overloaded_deployment_is_passed_by_this_once(
    stage: Stage, provider: str, fault: Fault, status: int
) -> None:
    chain = stage.chain(provider, first=fault)
    outcome = chain.run(urgency="relaxed")
    assert chain.calls_of(outcome) == [("first", "overloaded", status), ("next", "succeeded", 200)]
    assert stage.ledger.attempts(outcome.batch_id)[0].cost_nusd == 0
    assert not chain.rests()


@each_provider
def test_a_refused_connection_is_an_overloaded_deployment_and_costs_nothing(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, kind="dead")
    outcome = chain.run(urgency="relaxed")
    assert chain.calls_of(outcome) == [("first", "overloaded", None), ("next", "succeeded", 200)]
    assert stage.ledger.attempts(outcome.batch_id)[0].cost_nusd == 0
    assert not chain.rests()


@each_provider
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("hasty", {"kind": "hang"}),
        ("plain", {"kind": "reset"}),
        ("plain", {"kind": "reset", "where": "body"}),
    ],
    ids=["timeout", "reset", "cut"],
)
def test_a_call_without_an_answer_stays_charged_and_the_next_deployment_answers(
    stage: Stage, provider: str, kind: str, fault: Fault
) -> None:
    chain = stage.chain(provider, kind=kind, first=fault)
    outcome = chain.run(urgency="relaxed")
    assert chain.calls_of(outcome) == [("first", "unknown", None), ("next", "succeeded", 200)]
    first, last = stage.ledger.attempts(outcome.batch_id)
    assert first.cost_nusd == first.reserved_nusd > 0
    assert outcome.cost_nusd == first.cost_nusd + last.cost_nusd
    assert not chain.rests()


# auth: the next deployment; this one is out.


@each_provider
@pytest.mark.parametrize("status", [None, 403])
def test_a_deployment_whose_key_is_no_good_is_out(stage: Stage, provider: str, status: int | None) -> None:
    chain = stage.chain(provider, first={"kind": "auth", "status": status} if status else {"kind": "auth"})
    outcome = chain.run(urgency="relaxed")
    usual = 400 if provider == "gemini" else 401
    assert chain.calls_of(outcome) == [("first", "auth", status or usual), ("next", "succeeded", 200)]
    assert stage.ledger.attempts(outcome.batch_id)[0].cost_nusd == 0
    assert chain.calls_of(chain.run(urgency="relaxed")) == [("next", "succeeded", 200)]


@each_provider
def test_a_task_fails_with_the_providers_words_where_no_key_is_good(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, first={"kind": "auth"}, next={"kind": "auth"})
    for _ in range(2):
        outcome = chain.run()
        assert outcome.error is not None
        assert outcome.error.code == "all_deployments_failed"
        assert [(role, what) for role, what, _ in chain.calls_of(outcome)] == [("first", "auth"), ("next", "auth")]
        assert f"{chain.model()}: auth" in outcome.error.message
        assert f"{chain.model('next')}: auth" in outcome.error.message


def test_a_deployment_that_was_out_is_called_again_with_another_key(site: Site) -> None:
    ledger = Ledger(site)
    called = []
    with Client(config=site.config) as client:
        for key in ("bad", "good"):
            worker = site.start_worker("small", OPENAI_API_KEY=key)
            handle = client.submit(intent(text="My invoice is wrong"))
            assert handle.wait(PATIENCE_S).ok
            called.append([(one.deployment, one.outcome) for one in ledger.attempts(handle.id)])
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
    ledger.close()
    assert called == [[("mini", "auth"), ("haiku", "succeeded")], [("mini", "succeeded")]]


# too_long: a deployment with a larger window, else the next tier.


@each_provider
@pytest.mark.parametrize("status", [400, 413])
def test_what_is_too_long_goes_to_a_larger_window_of_the_chain(stage: Stage, provider: str, status: int) -> None:
    chain = stage.chain(provider, first={"kind": "too_long", "status": status})
    outcome = chain.run(urgency="relaxed")
    assert chain.calls_of(outcome) == [("first", "too_long", status), ("next", "succeeded", 200)]
    assert stage.ledger.attempts(outcome.batch_id)[0].cost_nusd == 0
    assert not chain.rests()


@each_provider
def test_what_no_window_of_the_tier_holds_escalates(stage: Stage, provider: str) -> None:
    chain = stage.chain(provider, kind="wide", first={"kind": "too_long"})
    outcome = chain.run()
    assert chain.calls_of(outcome) == [("first", "too_long", 400), ("upper", "succeeded", 200)]
    assert outcome.tier == "medium"


def test_what_no_window_holds_fails(stage: Stage) -> None:
    chain = stage.chain("openai", kind="wide", first={"kind": "too_long"})
    outcome = chain.run(tier="small")
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", "too_long")
    assert "maximum context length" in outcome.error.message
    assert chain.calls_of(outcome) == [("first", "too_long", 400)]


# refused: recorded, and the task fails; the next deployment only where the tier says so.

REFUSALS: list[tuple[str, Fault, int]] = [
    *((provider, {"kind": "refused"}, 200) for provider in PROVIDERS),
    ("anthropic", {"kind": "refused", "where": "prompt"}, 200),
    ("gemini", {"kind": "refused", "where": "prompt"}, 200),
    ("openai", {"kind": "refused", "status": 400}, 400),
    ("openai-compatible", {"kind": "refused", "status": 403}, 403),
    ("anthropic", {"kind": "refused", "status": 400}, 400),
]


@pytest.mark.parametrize(("provider", "fault", "status"), REFUSALS)
def test_a_refusal_is_recorded_and_ends_the_task(stage: Stage, provider: str, fault: Fault, status: int) -> None:
    chain = stage.chain(provider, first=fault)
    outcome = chain.run()
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", "refused")
    assert chain.calls_of(outcome) == [("first", "refused", status)]
    (attempt,) = stage.ledger.attempts(outcome.batch_id)
    # An answer that refuses has read the prompt, and is charged for it.
    assert outcome.cost_nusd == attempt.cost_nusd
    assert (attempt.cost_nusd > 0) == (status == 200)
    assert not chain.rests()


@pytest.mark.parametrize(("provider", "fault", "status"), REFUSALS)
def test_where_the_tier_says_so_a_refused_task_goes_to_the_next_deployment(
    stage: Stage, provider: str, fault: Fault, status: int
) -> None:
    chain = stage.chain(provider, kind="lenient", first=fault)
    outcome = chain.run(tier="medium")
    assert chain.calls_of(outcome) == [("first", "refused", status), ("next", "succeeded", 200)]


def test_what_every_deployment_refuses_is_refused_once_by_each(stage: Stage) -> None:
    chain = stage.chain("openai", kind="lenient", first={"kind": "refused"}, next={"kind": "refused"})
    outcome = chain.run(tier="medium")
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", "refused")
    assert chain.calls_of(outcome) == [("first", "refused", 200), ("next", "refused", 200)]


# invalid_request: the task fails at once, with the provider's message.

WRONG: list[tuple[str, str, int, str]] = [
    *((provider, "invalid_request", 400, "invalid") for provider in PROVIDERS),
    *((provider, "not_found", 404, "first") for provider in PROVIDERS),
    ("openai", "invalid_request", 422, "The request is invalid."),
]


@pytest.mark.parametrize(("provider", "kind", "status", "said"), WRONG)
def test_an_invalid_request_fails_at_once_in_the_providers_words(
    stage: Stage, provider: str, kind: str, status: int, said: str
) -> None:
    chain = stage.chain(provider, first={"kind": kind, "status": status, "should_retry": False})
    outcome = chain.run()
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", "invalid_request")
    assert said in outcome.error.message
    assert chain.calls_of(outcome) == [("first", "invalid_request", status)]
    assert outcome.cost_nusd == 0
    assert not chain.rests()


# invalid_output: one corrective re-ask that quotes what was wrong, then the next tier. Each call is charged.

SPOILT: list[tuple[str, str]] = [
    ("broken_json", "it is no valid JSON"),
    ("nan", "it is no valid JSON"),
    ("schema_violation", "is not of type"),
    ("unknown_label", "the value is none of those that the schema lists"),
    ("truncated", "it was cut off"),
]


def texts(value: Any) -> Iterator[str]:
    """Every text inside a request's body, whatever the provider's shape of it."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(part)


def last_body(chain: Chain, role: str = "first") -> str:
    """The texts of the last request to a deployment of a chain."""
    sent = [one for one in chain.stage.site.simulator.last_requests(100) if chain.model(role) in str(one)]
    return "\n".join(texts(sent[-1]["body"]))


@each_provider
@pytest.mark.parametrize(("kind", "problem"), SPOILT)
def test_an_unusable_answer_is_asked_again_in_words_that_say_what_was_wrong(
    stage: Stage, provider: str, kind: str, problem: str
) -> None:
    chain = stage.chain(provider, first={"kind": kind, "first": 1})
    outcome = chain.run()
    assert outcome.ok
    assert chain.calls_of(outcome) == [("first", "invalid_output", 200), ("first", "succeeded", 200)]
    asked, again = stage.ledger.attempts(outcome.batch_id)
    assert (asked.lane, again.lane) == ("call", "reask")
    assert "That answer cannot be used: " in last_body(chain)
    assert problem in last_body(chain)
    assert asked.cost_nusd > 0
    assert outcome.cost_nusd == asked.cost_nusd + again.cost_nusd


@each_provider
@pytest.mark.parametrize("kind", [kind for kind, _ in SPOILT])
def test_an_answer_that_stays_unusable_escalates_and_every_call_is_charged(
    stage: Stage, provider: str, kind: str
) -> None:
    chain = stage.chain(provider, first={"kind": kind})
    outcome = chain.run()
    assert outcome.ok
    assert outcome.tier == "medium"
    assert chain.calls_of(outcome) == [*[("first", "invalid_output", 200)] * 2, ("upper", "succeeded", 200)]
    calls = stage.ledger.attempts(outcome.batch_id)
    assert [call.lane for call in calls] == ["call", "reask", "call"]
    assert all(call.cost_nusd > 0 for call in calls)
    assert outcome.cost_nusd == sum(call.cost_nusd for call in calls)
    assert not chain.rests()


def test_an_answer_that_stays_unusable_fails_where_no_tier_is_left(stage: Stage) -> None:
    chain = stage.chain("openai", first={"kind": "unknown_label"})
    outcome = chain.run(tier="small")
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", "invalid_output")
    assert "the value is none of those that the schema lists" in outcome.error.message
