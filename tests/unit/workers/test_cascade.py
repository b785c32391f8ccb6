"""One claim of one task under a cascade: what is kept, what goes up, what is asked in between, and what is charged."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
import pytest

from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_workers.answers import Kind
from tierq_workers.execution import TaskRun
from tierq_workers.providers.base import ProviderError, Request, Response
from tierq_workers.runtime import PermittedAttempt, TierRuntime
from unit.workers.test_execution import SPEC, claimed

PRICE = {"input": 1, "output": 10}
DEPLOYMENTS = {
    "mini": {"provider": "openai", "model": "m", "price": PRICE, "region": "eu"},
    "other": {"provider": "openai", "model": "o", "price": PRICE, "region": "eu"},
    "judge": {"provider": "openai", "model": "j", "price": {"input": 5, "output": 50}, "region": "us"},
    "haiku": {"provider": "anthropic", "model": "h", "price": PRICE},
}
COST = 200_000
"""Of one call of `mini`: 100 tokens of input and 10 of output."""


def settings(worker: dict[str, Any] | None = None, **rule: Any) -> Settings:
    return Settings.model_validate(
        {
            "tiers": {"small": {"chain": ["mini", "other"]}, "large": {"chain": ["judge"]}},
            "deployments": DEPLOYMENTS,
            "cascade": [{"type": "classify", **rule}] if rule else [],
            "worker": worker or {},
        }
    )


LOGPROBS = {"signal": "logprobs", "threshold": 0.83}
AGREEMENT = {"signal": "agreement", "samples": 3, "threshold": 0.83}
VERIFIER = {"signal": "verifier", "verifier": "judge", "threshold": 0.83}


def answered(label: str, probability: float | None = None, other: str = "billing") -> Response:
    """A label, with its probability in the one token that it is; the rest of it is another label's."""
    choice: dict[str, Any] = {"message": {"content": f'{{"label": "{label}"}}'}, "finish_reason": "stop"}
    if probability is not None:
        against = [{"token": other, "logprob": math.log(1 - probability)}] if probability < 1 else []
        spelled = [('{"label": "', 0.0, []), (label, math.log(probability), against), ('"}', 0.0, [])]
        entries = [{"token": text, "logprob": share, "top_logprobs": more} for text, share, more in spelled]
        choice["logprobs"] = {"content": entries}
    body = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    return Response(200, {}, orjson.dumps(body))


def refused(status: int, message: str) -> Response:
    return Response(status, {}, orjson.dumps({"error": {"message": message}}))


class Provider:
    """Answers calls with what it was given, in turn, and keeps what it was asked."""

    def __init__(self, *answers: Response | ProviderError) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def send(self, request: Request, **_options: Any) -> Response | ProviderError:
        self.asked.append(orjson.loads(request.body))
        return self.answers.pop(0)


class Run:
    """A claim that has been run to its end, with every step of it."""

    def __init__(
        self,
        chosen: Settings,
        *answers: Response | ProviderError,
        provider: Provider | None = None,
        spec: SpecBody = SPEC,
        **fields: Any,
    ) -> None:
        self.provider = provider or Provider(*answers)
        self.runtime = TierRuntime(chosen, "small", self.provider)  # type: ignore[arg-type]
        self.runtime.kinds[spec.id] = Kind(spec)
        self.steps: list[Step] = []
        self.task = claimed(spec_id=spec.id, type=spec.type, **fields)
        first = self.runtime.first_attempt(self.task)
        assert isinstance(first, PermittedAttempt)
        self.attempts: list[NewAttempt] = [first]
        self.run = TaskRun(self.runtime, self.task, first, Kind(spec), self.record)

    async def record(self, step: Step) -> bool:
        self.steps.append(step)
        assert isinstance(step.next, NewAttempt)
        self.attempts.append(step.next)
        return True

    async def end(self) -> Any:
        step = await self.run.run()
        assert step is not None
        self.steps.append(step)
        return step.next

    @property
    def lanes(self) -> list[tuple[str, str]]:
        return [(one.deployment, one.lane) for one in self.attempts]

    @property
    def outcomes(self) -> list[tuple[str, int | None]]:
        return [(step.result.outcome, step.result.cost_nusd) for step in self.steps if step.result]


async def test_without_a_cascade_nothing_is_asked_stored_or_charged() -> None:
    run = Run(settings(), answered("bug", 0.99))
    assert await run.end() == Ended("succeeded", output='"bug"')
    assert "logprobs" not in run.provider.asked[0]


async def test_a_confident_answer_is_kept_with_its_confidence() -> None:
    run = Run(settings(**LOGPROBS), answered("bug", 0.9))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(0.9))
    assert (run.provider.asked[0]["logprobs"], run.provider.asked[0]["top_logprobs"]) == (True, 5)
    assert run.steps[-1].cost_nusd == COST


async def test_an_unsure_one_goes_up_and_is_charged_as_what_it_was() -> None:
    run = Run(settings(**LOGPROBS), answered("bug", 0.61))
    up = await run.end()
    assert isinstance(up, Requeued)
    assert (up.tier, up.reason, up.after_s) == ("large", "escalated from small: not confident: 0.61 < 0.83", 0.0)
    told = orjson.loads(up.signals)
    assert told == {"signal": "logprobs", "confidence": pytest.approx(0.61), "threshold": 0.83}
    assert run.outcomes == [("succeeded", COST)]
    assert run.steps[-1].cost_nusd == COST
    assert up.uncounted == 1, "the call did not fail"


async def test_the_numbers_of_a_near_miss_can_be_told_apart() -> None:
    up = await Run(settings(**LOGPROBS), answered("bug", 0.8296)).end()
    assert up.reason.endswith("not confident: 0.8296 < 0.8300")


@pytest.mark.parametrize("constraints", [{"pinned": True}, {"max_tier": "small"}, {"require": {"deployment": "mini"}}])
async def test_a_task_that_may_not_go_up_keeps_its_answer_and_its_confidence(constraints: dict[str, Any]) -> None:
    run = Run(settings(**LOGPROBS), answered("bug", 0.61), constraints=constraints)
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(0.61), is_unsure=True)


async def test_without_a_threshold_it_is_only_measured() -> None:
    run = Run(settings(signal="logprobs"), answered("bug", 0.1))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(0.1))


async def test_other_names_and_types_are_left_alone() -> None:
    run = Run(settings(**LOGPROBS, name="other"), answered("bug", 0.1))
    assert await run.end() == Ended("succeeded", output='"bug"')


async def test_where_no_log_probabilities_came_nothing_is_confident() -> None:
    up = await Run(settings(**LOGPROBS), answered("bug")).end()
    assert up.reason == "escalated from small: not confident: no log-probabilities came"


async def test_a_reasked_answer_is_judged_too() -> None:
    run = Run(settings(**LOGPROBS), answered("spam", 0.99), answered("bug", 0.9))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(0.9))
    assert [one["logprobs"] for one in run.provider.asked] == [True, True]


@pytest.mark.parametrize(
    "refusal",
    [
        (403, "You are not allowed to request logprobs from this model"),
        (400, "logprobs are not supported with reasoning models."),
    ],
)
async def test_a_model_that_gives_none_is_asked_again_without_and_stays_in_use(refusal: tuple[int, str]) -> None:
    """A 403 would take the deployment out, and a 400 fail the task, for what the cascade alone asked."""
    chosen = settings(**LOGPROBS, worker={"max_attempts": 1})
    run = Run(chosen, refused(*refusal), answered("bug"))
    up = await run.end()
    assert up.reason == "escalated from small: not confident: no log-probabilities came"
    assert [one.get("logprobs") for one in run.provider.asked] == [True, None]
    assert run.lanes == [("mini", "call"), ("mini", "call")]
    assert run.outcomes == [("invalid_request", 0), ("succeeded", COST)]
    assert up.uncounted == 2
    assert run.runtime.desk.closed("mini") is None
    assert not run.runtime.cascades.gives_logprobs("mini"), "the next task does not ask again"
    assert run.runtime.cascades.gives_logprobs("other")


# Agreement.


async def test_samples_that_agree_keep_the_answer_and_are_charged() -> None:
    run = Run(settings(**AGREEMENT), answered("bug"), answered("bug"), answered("bug"))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=1.0)
    assert run.lanes == [("mini", "call"), ("mini", "sample"), ("mini", "sample")]
    assert [one.ordinal for one in run.attempts] == [1, 2, 3]
    assert run.steps[-1].cost_nusd == 3 * COST
    assert len({one.id for one in run.attempts}) == 3
    assert run.provider.asked[0] == run.provider.asked[1], "every sample is asked the same"


async def test_the_majority_goes_up_where_it_is_too_small() -> None:
    run = Run(settings(**AGREEMENT), answered("bug"), answered("billing"), answered("billing"))
    up = await run.end()
    assert up.reason == "escalated from small: not confident: 0.67 < 0.83"
    assert run.outcomes == [("succeeded", COST)] * 3


async def test_the_majority_is_what_is_kept() -> None:
    rule = {**AGREEMENT, "threshold": 0.6}
    run = Run(settings(**rule), answered("bug"), answered("billing"), answered("billing"))
    assert await run.end() == Ended("succeeded", output='"billing"', confidence=pytest.approx(2 / 3))


async def test_samples_that_fail_agree_with_nothing_and_are_no_tries() -> None:
    lost = ProviderError(ErrorClass.OVERLOADED, "reset")
    rule = {**AGREEMENT, "threshold": 0.3}
    chosen = settings(**rule, worker={"max_attempts": 1})
    run = Run(chosen, answered("bug"), lost, answered("spam"))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(1 / 3))
    reserved = run.attempts[1].reserved_nusd
    assert run.outcomes == [("succeeded", COST), ("unknown", reserved), ("invalid_output", COST)]
    assert run.steps[-1].cost_nusd == 2 * COST + (reserved or 0)
    assert run.lanes[-1] == ("mini", "sample"), "an invalid sample is not asked again"


async def test_a_sample_is_not_taken_from_a_deployment_that_is_out() -> None:
    out = ProviderError(ErrorClass.QUOTA_EXHAUSTED, "no credit", 402)
    run = Run(settings(**AGREEMENT), answered("bug"), out)
    up = await run.end()
    assert up.reason == "escalated from small: not confident: 0.33 < 0.83"
    assert len(run.provider.asked) == 2, "the third would only fail as well"


async def test_after_a_reask_samples_are_asked_afresh() -> None:
    run = Run(settings(**AGREEMENT), answered("spam"), *[answered("bug")] * 3)
    assert (await run.end()).confidence == 1.0
    assert run.lanes == [("mini", "call"), ("mini", "reask"), ("mini", "sample"), ("mini", "sample")]
    assert run.provider.asked[2] == run.provider.asked[0]


# A verifier.


async def test_a_verifier_is_shown_task_and_answer() -> None:
    run = Run(settings(**VERIFIER), answered("bug"), answered("yes", 0.95, other="no"))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=pytest.approx(0.95))
    assert run.lanes == [("mini", "call"), ("judge", "verify")]
    system, user = (message["content"] for message in run.provider.asked[1]["messages"])
    assert "Classify the text inside <text>" in system
    assert user == '<text>\nit crashes\n</text>\n<answer>\n"bug"\n</answer>'
    assert run.provider.asked[1]["model"] == "j"
    assert run.outcomes == [("succeeded", COST), ("succeeded", 5 * COST)]


async def test_a_verifiers_no_sends_it_up() -> None:
    up = await Run(settings(**VERIFIER), answered("bug"), answered("no", 0.9, other="yes")).end()
    assert up.reason == "escalated from small: not confident: 0.10 < 0.83"


async def test_a_verifier_without_log_probabilities_is_taken_at_its_word() -> None:
    rule = {**VERIFIER, "verifier": "haiku"}
    said = {"content": [{"type": "text", "text": '{"label":"yes"}'}], "stop_reason": "end_turn", "usage": {}}
    run = Run(settings(**rule), answered("bug"), Response(200, {}, orjson.dumps(said)))
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=1.0)
    unasked = Run(settings(**VERIFIER), answered("bug"), refused(403, "no logprobs from this model"), answered("yes"))
    assert (await unasked.end()).confidence == 1.0
    assert unasked.lanes == [("mini", "call"), ("judge", "verify"), ("judge", "verify")]


@pytest.mark.parametrize("verdict", [ProviderError(ErrorClass.OVERLOADED, "busy", 503), answered("maybe", 0.9)])
async def test_without_a_verdict_it_goes_up(verdict: Any) -> None:
    up = await Run(settings(**VERIFIER), answered("bug"), verdict).end()
    assert up.reason == "escalated from small: not confident: no verdict came"


async def test_a_task_is_not_shown_to_a_verifier_outside_its_region() -> None:
    run = Run(settings(**VERIFIER), answered("bug"), constraints={"require": {"region": "eu"}, "pinned": True})
    assert await run.end() == Ended("succeeded", output='"bug"', confidence=None, is_unsure=True)
    assert len(run.provider.asked) == 1
    pinned = {"require": {"deployment": "mini"}, "pinned": True}
    measured = Run(settings(**VERIFIER), answered("bug"), answered("yes", 0.9, other="no"), constraints=pinned)
    assert (await measured.end()).confidence == pytest.approx(0.9), "which deployment answers is not who may see it"


async def test_the_reserve_of_a_verification_covers_the_answer_it_is_shown() -> None:
    essay = SpecBody(type="generate", name="essay", max_output_tokens=4_000)
    chosen = settings().model_copy(
        update={"cascade": [settings(**VERIFIER).cascade[0].model_copy(update={"type": "generate"})]}
    )
    text = "word " * 3_000
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"total_tokens": 9}}
    run = Run(
        chosen,
        Response(200, {}, orjson.dumps(body)),
        answered("yes", 0.9, other="no"),
        spec=essay,
        input_json='{"prompt":"write"}',
    )
    assert isinstance(await run.end(), Ended)
    asked = sum(len(message["content"].encode()) for message in run.provider.asked[1]["messages"])
    of_output = DEPLOYMENT_BOUND * 50_000
    assert (run.attempts[1].reserved_nusd or 0) >= (asked / 4) * 5_000 + of_output


DEPLOYMENT_BOUND = 1_024
"""`max_output_tokens` of a deployment that names none."""


class Hanging(Provider):
    """Never answers what it was given no answer for."""

    async def send(self, request: Request, **options: Any) -> Response | ProviderError:
        if not self.answers:
            self.asked.append({})
            await asyncio.Event().wait()
        return await super().send(request, **options)


async def test_a_sample_that_is_broken_off_stays_charged_and_the_task_waits_on_its_tier() -> None:
    run = Run(settings(**AGREEMENT), provider=Hanging(answered("bug")))
    running = asyncio.create_task(run.run.run())
    async with asyncio.timeout(10):
        while len(run.provider.asked) < 2:  # noqa: ASYNC110  # a plain look at what the run has done so far
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    step = run.run.given_up("stopped")
    assert step.result is not None
    assert (step.result.id, step.result.outcome) == (run.attempts[1].id, "unknown")
    assert step.next == Requeued("small")
    assert step.cost_nusd == COST + (run.attempts[1].reserved_nusd or 0)
