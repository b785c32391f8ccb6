"""Runs one claimed task: calls, checks and decides until it has ended, waits again, or belongs to somebody else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import Connection

from tierq_shared.configuration import resolve_base_url, resolve_key
from tierq_shared.deployments import Deployment
from tierq_shared.ids import new_id
from tierq_shared.money import Rates, Usage
from tierq_shared.outcomes import AttemptOutcome, ErrorClass
from tierq_shared.policy import Policy
from tierq_shared.prompts import MAX_QUOTED_ANSWER, Prompt
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.claims import ClaimedTask, NewAttempt, Refusal, read_specs
from tierq_shared.store.outcomes import AttemptResult, Ended, Requeued, Step
from tierq_workers.answers import Kind, Problem
from tierq_workers.chain import Call, Chain, Escalate, Fail, NextStep, Trail, Wait
from tierq_workers.permits.desk import Desk, Permit
from tierq_workers.prices import PriceList
from tierq_workers.providers import adapter_for
from tierq_workers.providers.allowances import Allowance, read_allowance
from tierq_workers.providers.base import Completion, ProviderError
from tierq_workers.transport import Transport

log = logging.getLogger("tierq.worker")

_RESERVE_BYTES_PER_TOKEN = 3
"""A worst case is reserved, so fewer bytes a token than the rule of thumb that routing goes by."""

_RESERVE_FRAME_TOKENS = 200
"""What a provider's own framing of messages and schema may add."""

_BYTES_PER_TOKEN = 4
"""What a permit reserves is no worst case: it is what a call is likely to need (OpenAI's rule of thumb for English)."""

_LIKELY_OUTPUT_TOKENS = 100
"""Where the bound on the output is higher: most answers are far below theirs. What calls use corrects both."""

_MAX_KINDS = 1_000

Record = Callable[[Step], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Lane:
    """A deployment with what it takes to call it."""

    deployment: Deployment
    key: SecretStr | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PermittedAttempt(NewAttempt):
    """An attempt with the permit that its call was given."""

    permit: Permit


class TierRuntime:
    """What all runs of one tier share: deployments, prices, policy, permits, transport."""

    def __init__(self, settings: Settings, tier: str, transport: Transport, holder: str = "") -> None:
        self.tier = tier
        self.policy: Policy = settings.make_policy()
        self.settings = settings
        self.transport = transport
        self._prices = PriceList()
        self.kinds: dict[str, Kind] = {}
        """Specs by their id, ready to be run."""
        self.lanes = {
            deployment.name: Lane(resolve_base_url(deployment), resolve_key(deployment))
            for deployment in settings.chain(tier)
        }
        self.desk = Desk(settings.chain(tier), settings.limits, holder=holder)
        self.chain = Chain(
            settings.chain(tier),
            self.desk,
            spill_after_s=settings.tiers[tier].spill_after,
            max_attempts=settings.worker.max_attempts,
            refusal_failover=settings.tiers[tier].refusal_failover,
            windows={name: self._prices.context_window(lane.deployment) for name, lane in self.lanes.items()},
        )

    def learn(self, connection: Connection, spec_ids: set[str]) -> None:
        """Reads the specs that are new here, and makes them ready."""
        if len(self.kinds) > _MAX_KINDS:
            # Runs under way hold their own; an application that makes a schema a request must not fill the memory.
            self.kinds = {}
        unknown = sorted(spec_ids - self.kinds.keys())
        if unknown:
            for spec_id, content in read_specs(connection, unknown).items():
                self.kinds[spec_id] = Kind(SpecBody.from_json(content))

    def first_attempt(self, task: ClaimedTask) -> NewAttempt | Refusal | None:
        """The attempt that a claim writes ahead; None where the task has to wait, a refusal where nobody may run it."""
        kind = self.kinds[task.spec_id]
        step = self.chain.first(trail_of(task, kind))
        if isinstance(step, Fail):
            return Refusal(step.code, step.message)
        return self.attempt(task, kind, step, task.attempts + 1) if isinstance(step, Call) else None

    def attempt(self, task: ClaimedTask, kind: Kind, call: Call, ordinal: int) -> PermittedAttempt:
        deployment = call.deployment
        asked = _asked_bytes(task, kind) + (MAX_QUOTED_ANSWER if call.reask else 0)
        input_tokens = asked // _RESERVE_BYTES_PER_TOKEN + _RESERVE_FRAME_TOKENS
        rates = self._prices.rates(deployment, input_tokens=input_tokens)
        output_tokens = kind.spec.max_output_tokens or deployment.max_output_tokens
        # All of it written to the provider's cache, where that is dearer than plain input.
        written = input_tokens if rates and rates.cache_write > rates.input else 0
        worst = Usage(input_tokens=input_tokens, cache_write_tokens=written, output_tokens=output_tokens)
        return PermittedAttempt(
            id=new_id(),
            task_id=task.id,
            epoch=task.epoch,
            ordinal=ordinal,
            tier=task.tier,
            deployment=deployment.name,
            provider=deployment.provider,
            model=deployment.model,
            lane="reask" if call.reask else "call",
            reserved_nusd=rates.cost_nusd(worst) if rates else None,
            price_version=rates.version if rates else None,
            permit=call.permit,
        )

    def rates(self, deployment: Deployment, usage: Usage) -> Rates | None:
        return self._prices.rates(deployment, input_tokens=usage.input_tokens)


def _asked_bytes(task: ClaimedTask, kind: Kind) -> int:
    return len(task.input_json.encode()) + kind.system_bytes


def trail_of(task: ClaimedTask, kind: Kind) -> Trail:
    """What is known of a task before its first call in this claim."""
    answer = min(kind.spec.max_output_tokens or _LIKELY_OUTPUT_TOKENS, _LIKELY_OUTPUT_TOKENS)
    return Trail(
        urgency=task.urgency,
        waited_s=(task.claimed_at - task.created_at).total_seconds(),
        require=task.constraints.get("require", {}),
        calls=task.attempts - task.uncounted_attempts + 1,
        tokens=_asked_bytes(task, kind) / _BYTES_PER_TOKEN + answer,
    )


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
        self._trail = trail_of(task, kind)
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
        )
        self._charge(result.cost_nusd)
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
                return self._step(result, Ended("succeeded", output=output))
            self._prompt = self._prompt.reask(answer.text, output.message) if self._prompt else None
            answer = ProviderError(
                ErrorClass.INVALID_OUTPUT, output.message, 200, request_id=answer.request_id, usage=answer.usage
            )
        result = self._failure(answer, lane)
        return self._step(result, self._next(lane.deployment, answer))

    async def _call(self, lane: Lane) -> tuple[Completion | ProviderError, Allowance | None]:
        deployment = lane.deployment
        if self._prompt is None:
            self._prompt = self._kind.template.render(self._input, max_output_tokens=deployment.max_output_tokens)
        key = lane.key.get_secret_value() if lane.key else None
        adapter = adapter_for(deployment.provider)
        request = adapter.request(self._prompt, deployment, key=key, attempt_id=self._attempt.id)
        self._began = time.monotonic()
        answer = await self._runtime.transport.send(
            request, timeout_s=self._timeout_s(deployment), total_s=self._left_s()
        )
        if isinstance(answer, ProviderError):
            return answer, None
        return adapter.parse(answer), read_allowance(answer.headers)

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
        if answer.truncated and self._kind.spec.type != "generate":
            return Problem("it was cut off at the bound on its length: answer more briefly")
        return self._kind.check(answer.text, self._input)

    def _failure(self, error: ProviderError, lane: Lane) -> AttemptResult:
        if error.http_status is None and error.sent:
            # Sent, and no answer came: the provider may have served it, so it stays charged at its worst case.
            outcome, cost = AttemptOutcome.UNKNOWN.value, self._attempt.reserved_nusd
            self._charge(cost)
            return AttemptResult(self._attempt.id, outcome, self._elapsed_ms(), cost_nusd=cost, error=error.message)
        result = self._result(error.error_class.value, error.usage, lane, request_id=error.request_id)
        return replace(result, http_status=error.http_status, error=error.message)

    def _result(self, outcome: str, usage: Usage, lane: Lane, *, request_id: str | None) -> AttemptResult:
        cost = self._priced(outcome, usage, lane)
        self._charge(cost)
        return AttemptResult(
            id=self._attempt.id,
            outcome=outcome,
            latency_ms=self._elapsed_ms(),
            http_status=200,
            request_id=request_id,
            usage=usage,
            cost_nusd=cost,
        )

    def _priced(self, outcome: str, usage: Usage, lane: Lane) -> int | None:
        """The exact cost; None where the price is unknown, or the tokens of a served call are."""
        if usage.total_tokens == 0:
            return None if outcome in (AttemptOutcome.SUCCEEDED, ErrorClass.INVALID_OUTPUT) else 0
        rates = self._runtime.rates(lane.deployment, usage)
        return rates.cost_nusd(usage) if rates else None

    def _charge(self, cost: int | None) -> None:
        self._cost = None if self._cost is None or cost is None else self._cost + cost

    def _next(self, failed: Deployment, error: ProviderError) -> Ended | Requeued | NewAttempt:
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

    def _escalated(self, step: Escalate) -> Ended | Requeued:
        constraints = self.task.constraints
        tier: str | None = self.task.tier
        while tier is not None and not constraints.get("pinned"):
            tier = self._runtime.policy.next_tier(tier, constraints.get("max_tier"))
            if tier is not None and self._runtime.settings.serves(tier, constraints.get("require", {})):
                return Requeued(
                    tier,
                    reason=f"escalated from {self.task.tier}: {step.code}",
                    policy_version=self._runtime.policy.version,
                )
        return Ended("failed", error_code=step.code, error=step.reason)

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
