"""Runs one claimed task: calls, checks and decides until it has ended, waits again, or belongs to somebody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeGuard

import orjson

from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.outcomes import AttemptOutcome, ErrorClass
from tierq_shared.prompts import Prompt, verification
from tierq_shared.store.budgets import charge
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_workers.answers import Kind, Problem
from tierq_workers.cascade import VERDICT, Ask, Judge, Judged, permit_for
from tierq_workers.chain import Call, Escalate, Fail, NextStep, OverCap, Wait
from tierq_workers.permits.desk import Permit
from tierq_workers.providers import adapter_for
from tierq_workers.providers.allowances import Allowance, read_allowance
from tierq_workers.providers.base import Completion, ProviderError
from tierq_workers.providers.logprobs import refuses_logprobs
from tierq_workers.runtime import Lane, PermittedAttempt, TierRuntime, signals_of_claimed

Record = Callable[[Step], Awaitable[bool]]


class TaskRun:
    """One claim of one task, from its first call to what became of it."""

    def __init__(
        self, runtime: TierRuntime, task: ClaimedTask, attempt: PermittedAttempt, kind: Kind, record: Record
    ) -> None:
        self.task = task
        self._runtime = runtime
        self._attempt = attempt
        self._kind = kind
        self._record = record
        self._trail = runtime.trail(task, kind)
        self._judge = runtime.cascades.judge(kind.spec, task.constraints.get("require", {}))
        self._left = task.headroom.of_task if task.headroom is not None else None
        """What is left of the task's own cap; None where it has none."""
        if task.headroom is not None:
            self._trail.fits = self._fits
        self._input: dict[str, Any] = orjson.loads(task.input_json)
        self._cost: int | None = task.cost_nusd
        self._claimed_at = time.monotonic()
        self._prompt: Prompt | None = None
        self._began = 0.0
        self._uncounted = 0
        """Calls of this claim that do not count against the task's budget."""

    async def run(self) -> Step | None:
        """The last step of this claim, which its caller records; None where it is another's by now.

        Steps in between are recorded on the way.
        """
        while True:
            step = await self._make_attempt()
            if not isinstance(step.next, PermittedAttempt):
                return step
            if not await self._took_over(step, step.next):
                return None
            if step.next.lane not in SECOND_OPINIONS:
                self._trail.calls += 1

    async def _took_over(self, step: Step, following: PermittedAttempt) -> bool:
        """Records a step; whether its further attempt is this run's to make. Cancelling waits for the commit."""
        recording = asyncio.ensure_future(self._record(step))
        try:
            counted = await asyncio.shield(recording)
        except asyncio.CancelledError:
            if await recording:
                self._attempt, self._began = following, 0.0
            raise
        if counted:
            self._attempt, self._began = following, 0.0
        else:
            self._runtime.desk.settle(following.permit, None)
        return counted

    def given_up(self, why: str) -> Step:
        """The step for a call that this worker broke off itself: what the provider did of it is unknown."""
        was_sent = bool(self._began)
        self._runtime.desk.settle(self._attempt.permit, None)
        result = AttemptResult(
            id=self._attempt.id,
            outcome=AttemptOutcome.UNKNOWN if was_sent else AttemptOutcome.CANCELLED,
            latency_ms=self._elapsed_ms(),
            cost_nusd=self._attempt.reserved_nusd if was_sent else 0,
            error=why,
            is_capped=bool(self._attempt.caps),
        )
        self._charge(result.cost_nusd)
        self._runtime.observer.answered(self.task, self._attempt, result)
        return self._step(result, Requeued(self.task.tier))

    def broken(self, error: str) -> Step:
        """The step for a task that this worker could not handle: it fails, and its call stays charged."""
        return replace(self.given_up(f"the worker failed: {error}"), next=_internal_error(error))

    async def _make_attempt(self) -> Step:
        lane = self._runtime.lanes[self._attempt.deployment]
        answer, allowance = await self._call(lane)
        self._runtime.desk.settle(self._attempt.permit, answer, allowance)
        if isinstance(answer, Completion):
            output = self._checked(answer)
            if not isinstance(output, Problem):
                result = self._result(AttemptOutcome.SUCCEEDED, answer.usage, lane, request_id=answer.request_id)
                result = replace(result, response_id=answer.response_id)
                self._runtime.observer.answered(self.task, self._attempt, result)
                return self._step(result, self._answered(output, answer, lane.deployment))
            self._prompt = self._prompt.reask(answer.text, output.message) if self._prompt else None
            answer = ProviderError(
                ErrorClass.INVALID_OUTPUT, output.message, 200, request_id=answer.request_id, usage=answer.usage
            )
        result = self._failure(answer, lane)
        self._runtime.observer.answered(self.task, self._attempt, result)
        return self._step(result, self._next(lane.deployment, answer))

    async def _call(self, lane: Lane) -> tuple[Completion | ProviderError, Allowance | None]:
        deployment = lane.deployment
        if self._prompt is None:
            self._prompt = self._rendered(deployment)
        key = lane.key.get_secret_value() if lane.key else None
        adapter = adapter_for(deployment.provider)
        request = adapter.request(self._prompt, deployment, key=key, attempt_id=self._attempt.id)
        self._runtime.observer.called(self.task, self._attempt)
        self._began = time.monotonic()
        answer = await self._runtime.transport.send(
            request, timeout_s=self._timeout_s(deployment), total_s=self._left_s()
        )
        if isinstance(answer, ProviderError):
            return answer, None
        parsed = adapter.parse(answer)
        if self._is_about_logprobs(parsed):
            # Whatever status it came with, a 403 among them: it says nothing of the key or the deployment's health.
            parsed = replace(parsed, error_class=ErrorClass.INVALID_REQUEST)
        return parsed, read_allowance(answer.headers)

    def _rendered(self, deployment: Deployment) -> Prompt:
        """The prompt of the attempt's call, as its lane wants it."""
        lane, judge, most = self._attempt.lane, self._judge, deployment.max_output_tokens
        if judge is None:
            return self._kind.template.render(self._input, max_output_tokens=most)
        if lane == "verify":
            prompt = verification(self._kind.template, self._input, judge.output, max_output_tokens=most)
        else:
            prompt = self._kind.template.render(self._input, max_output_tokens=most)
        wanted = judge.alternatives(lane, deployment)
        return replace(prompt, logprobs=wanted) if self._runtime.cascades.gives_logprobs(deployment.name) else prompt

    def _timeout_s(self, deployment: Deployment) -> float:
        """A call is not waited for beyond the task's deadline."""
        left = self._left_s()
        return deployment.timeout_s if left is None else max(0.05, min(deployment.timeout_s, left))

    def _left_s(self) -> float | None:
        if self.task.deadline is None:
            return None
        at_claim = (self.task.deadline - self.task.claimed_at).total_seconds()
        return at_claim - (time.monotonic() - self._claimed_at)

    def _checked(self, answer: Completion) -> str | Problem:
        kind = VERDICT if self._attempt.lane == "verify" else self._kind
        if answer.truncated and kind.spec.type != "generate":
            return Problem("it was cut off at the bound on its length: answer more briefly")
        return kind.check(answer.text, self._input)

    def _failure(self, error: ProviderError, lane: Lane) -> AttemptResult:
        if error.http_status is None and error.sent:
            # Sent, and no answer came: the provider may have served it, so it stays charged at its worst case.
            outcome, cost = AttemptOutcome.UNKNOWN.value, self._attempt.reserved_nusd
            self._charge(cost)
            return replace(self._ended(outcome, cost), error=error.message)
        result = self._result(error.error_class.value, error.usage, lane, request_id=error.request_id)
        return replace(result, http_status=error.http_status, error=error.message)

    def _result(self, outcome: str, usage: Usage, lane: Lane, *, request_id: str | None) -> AttemptResult:
        cost = self._priced(outcome, usage, lane)
        self._charge(cost)
        return replace(self._ended(outcome, cost), http_status=200, request_id=request_id, usage=usage)

    def _ended(self, outcome: str, cost: int | None) -> AttemptResult:
        attempt = self._attempt
        return AttemptResult(attempt.id, outcome, self._elapsed_ms(), cost_nusd=cost, is_capped=bool(attempt.caps))

    def _priced(self, outcome: str, usage: Usage, lane: Lane) -> int | None:
        """The exact cost; None where the price is unknown, or the tokens of a served call are."""
        if usage.total_tokens == 0:
            return None if outcome in (AttemptOutcome.SUCCEEDED, ErrorClass.INVALID_OUTPUT) else 0
        rates = self._runtime.rates(lane.deployment, usage)
        return rates.cost_nusd(usage) if rates else None

    def _charge(self, cost: int | None) -> None:
        self._cost = None if self._cost is None or cost is None else self._cost + cost
        if self._left is not None:
            self._left -= charge(cost, self._attempt.reserved_nusd)

    def _fits(self, deployment: Deployment, *, reask: bool = False) -> bool:
        """Whether a further call has room under the task's own cap; about the others the commit decides."""
        return self._runtime.caps.fits(self.task, self._kind, self._left)(deployment, reask=reask)

    def _next(self, failed: Deployment, error: ProviderError) -> Ended | Requeued | NewAttempt:
        if self._is_about_logprobs(error):
            return self._without_logprobs(failed)
        if self._judge is not None and self._attempt.lane in SECOND_OPINIONS:
            return self._follow(self._judge, self._judge.heard(self._attempt.lane, None, None))
        if _is_uncounted(self._attempt.permit, error):
            self._trail.calls -= 1
            self._uncounted += 1
        step = self._runtime.chain.after(failed, error, self._trail)
        left = self._left_s()
        if left is not None and left <= 0 and not isinstance(step, Fail):
            return Ended("expired", error_code="deadline", error="the deadline passed before an answer was there")
        return self._as_next(step)

    def _as_next(self, step: NextStep) -> Ended | Requeued | NewAttempt:
        match step:
            case Call():
                if not step.reask:
                    self._prompt = None
                return self._runtime.attempt(self.task, self._kind, step, self._attempt.ordinal + 1)
            case Wait():
                return Requeued(self.task.tier, after_s=max(0.05, step.seconds), uncounted=self._uncounted)
            case Escalate():
                return self._escalated(step)
            case Fail():
                return Ended("failed", error_code=step.code, error=step.message)
            case OverCap():
                return self._over_cap()

    def _over_cap(self) -> Ended:
        refusal = self._runtime.caps.refusal(self.task, self._left)
        return Ended("failed", error_code=refusal.code, error=refusal.message)

    def _escalated(self, step: Escalate) -> Ended | Requeued:
        tier = self._higher_tier()
        if tier is None:
            return Ended("failed", error_code=step.code, error=step.reason)
        return Requeued(
            tier,
            reason=f"escalated from {self.task.tier}: {step.code}",
            policy_version=self._runtime.policy.version,
            signals=signals_of_claimed(self.task, self._kind).json(),
        )

    def _higher_tier(self) -> str | None:
        """The next tier up that may run the task; None where there is none."""
        constraints, policy = self.task.constraints, self._runtime.policy
        tier: str | None = self.task.tier
        while tier is not None and not constraints.get("pinned"):
            tier = policy.next_tier(tier, constraints.get("max_tier"))
            if tier is not None and self._runtime.settings.serves(tier, constraints.get("require", {})):
                return tier
        return None

    def _answered(self, output: str, answer: Completion, by: Deployment) -> Ended | Requeued | NewAttempt:
        judge, lane = self._judge, self._attempt.lane
        if judge is None:
            return Ended("succeeded", output=output)
        second = lane in SECOND_OPINIONS
        return self._follow(judge, judge.heard(lane, output, answer) if second else judge.answered(output, answer, by))

    def _follow(self, judge: Judge, verdict: Ask | Judged) -> Ended | Requeued | NewAttempt:
        """The next call that the judge asks for, or what it found. A call that cannot be made now tells nothing."""
        if isinstance(verdict, Judged):
            return self._settled(verdict)
        permit = None
        if self._can_afford(verdict):
            permit = permit_for(verdict, self._runtime.desk, self._trail.tokens, self._left_s())
        if permit is None:
            return self._follow(judge, judge.heard(verdict.lane, None, None))
        self._prompt = None
        call = Call(verdict.deployment, permit)
        return self._runtime.attempt(self.task, self._kind, call, self._attempt.ordinal + 1, verdict)

    def _can_afford(self, ask: Ask) -> bool:
        """Whether the task's own cap has room for another opinion: the answer that it is about is paid for."""
        return self._left is None or self._runtime.caps.can_ask(self.task, self._kind, ask, self._left)

    def _settled(self, judged: Judged) -> Ended | Requeued:
        tier = None if judged.is_sure else self._higher_tier()
        if tier is None:
            return Ended("succeeded", output=judged.output, confidence=judged.confidence, is_unsure=not judged.is_sure)
        return Requeued(
            tier,
            reason=f"escalated from {self.task.tier}: {judged.why}",
            policy_version=self._runtime.policy.version,
            signals=judged.signals,
            # The call that gave the answer did not fail.
            uncounted=self._uncounted + 1,
        )

    def _is_about_logprobs(self, answer: Completion | ProviderError) -> TypeGuard[ProviderError]:
        """Whether a call failed for the log-probabilities that it asked for, and for nothing else."""
        asked = self._prompt is not None and self._prompt.logprobs is not None
        return asked and isinstance(answer, ProviderError) and refuses_logprobs(answer)

    def _without_logprobs(self, deployment: Deployment) -> NewAttempt:
        """The same call again, without asking for them; the one that was refused counts as no try."""
        self._runtime.cascades.no_logprobs(deployment.name)
        lane = self._attempt.lane
        second = self._judge.verification_by(deployment) if self._judge and lane == "verify" else None
        if second is None:
            self._trail.calls -= 1
            self._uncounted += 1
        self._prompt = replace(self._prompt, logprobs=None) if self._prompt else None
        call = Call(deployment, self._runtime.desk.insist(deployment.name, self._trail.tokens), reask=lane == "reask")
        return self._runtime.attempt(self.task, self._kind, call, self._attempt.ordinal + 1, second)

    def _step(self, result: AttemptResult, next_: Ended | Requeued | NewAttempt) -> Step:
        task = self.task
        return Step(
            task.id, task.batch_id, task.position, task.tier, task.epoch, task.priority, self._cost, result, next_
        )

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000) if self._began else 0


def _is_uncounted(permit: Permit, error: ProviderError) -> bool:
    """Whether a failed call is no reason to give its task up: it was throttled, or was made to see who is back."""
    return error.error_class is ErrorClass.RATE_LIMITED or (
        permit.is_probe and error.error_class is ErrorClass.OVERLOADED
    )


def _internal_error(error: str) -> Ended:
    return Ended("failed", error_code="internal_error", error=f"the worker could not handle this task ({error})")
