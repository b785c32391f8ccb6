"""Judges whether a cheap tier's answer is good enough to be kept: what to ask next, and what it came to. No I/O."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import orjson

from tierq_shared.cascade import LOGPROB_PROVIDERS, CascadeRule, find_rule
from tierq_shared.deployments import Deployment
from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.prompts import VERDICT_SPEC
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_workers import confidence
from tierq_workers.answers import Kind
from tierq_workers.permits.desk import Desk, Permit, RestKind
from tierq_workers.providers.base import Completion

log = logging.getLogger("tierq.worker")

VERDICT = Kind(VERDICT_SPEC)
"""What a verifier's answers are checked by."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One more call is needed to know how sure the answer is."""

    lane: str
    """`sample` or `verify`."""
    deployment: Deployment
    answer_bytes: int = 0
    """What the prompt holds beside the task: the answer that is to be verified."""

    @property
    def verifies(self) -> int | None:
        """The bytes of the answer that the call is to verify; None where it gives an answer itself."""
        return self.answer_bytes if self.lane == "verify" else None


@dataclass(frozen=True, slots=True)
class Judged:
    """How sure the answer is, and whether that is enough."""

    output: str = field(repr=False)
    confidence: float | None
    """None where it could not be measured."""
    is_sure: bool
    why: str = ""
    """Why it is not enough, such as `not confident: 0.61 < 0.83`."""
    signals: str = "{}"


class Judge:
    """What is known of one task's answer on a tier that the cascade may start from.

    What is heard is told by the lane of its call; a call that gave nothing usable speaks for nothing.
    """

    def __init__(self, rule: CascadeRule, spec: SpecBody, verifier: Deployment | None) -> None:
        self._rule = rule
        self._spec = spec
        self._verifier = verifier
        """None where there is none, or none that may see this task."""
        self._outputs: list[str | None] = []
        self._by: Deployment | None = None

    @property
    def output(self) -> str:
        """The answer that is judged."""
        return self._outputs[0] or ""

    def alternatives(self, lane: str, deployment: Deployment) -> int | None:
        """How many alternatives to each token a call is to ask for; None where it needs no log-probabilities."""
        if lane == "verify":
            return confidence.alternatives_for(VERDICT_SPEC) if deployment.provider in LOGPROB_PROVIDERS else None
        return confidence.alternatives_for(self._spec) if self._rule.signal == "logprobs" else None

    def answered(self, output: str, answer: Completion, by: Deployment) -> Ask | Judged:
        """The tier gave a valid answer."""
        self._outputs, self._by = [output], by
        if self._rule.signal == "logprobs":
            return self._judged(output, confidence.of_tokens(self._spec, answer))
        return self._another_sample(by) if self._rule.signal == "agreement" else self._verification()

    def heard(self, lane: str, output: str | None, answer: Completion | None) -> Ask | Judged:
        """A further call gave this valid output; None where it failed, was invalid, or could not be made."""
        if lane == "verify":
            if output is None or answer is None:
                return self._judged(self.output, None)
            sureness = confidence.of_tokens(VERDICT_SPEC, answer)
            return self._judged(self.output, confidence.of_verdict(orjson.loads(output) == "yes", sureness))
        self._outputs.append(output)
        return self._another_sample(self._by)

    def _another_sample(self, by: Deployment | None) -> Ask | Judged:
        if by is not None and len(self._outputs) < self._rule.calls:
            return Ask("sample", by)
        agreed = confidence.of_samples(self._spec.type, self._outputs)
        return self._judged(agreed.output, agreed.confidence) if agreed else self._judged(self.output, None)

    def _verification(self) -> Ask | Judged:
        return self.verification_by(self._verifier) if self._verifier else self._judged(self.output, None)

    def verification_by(self, verifier: Deployment) -> Ask:
        return Ask("verify", verifier, len(self.output.encode()))

    def _judged(self, output: str, sureness: float | None) -> Judged:
        threshold = self._rule.threshold
        if threshold is None or (sureness is not None and sureness >= threshold):
            return Judged(output, sureness, is_sure=True)
        why = _NOT_MEASURED[self._rule.signal] if sureness is None else _compared(sureness, threshold)
        told = {"signal": self._rule.signal, "confidence": sureness, "threshold": threshold}
        return Judged(output, sureness, is_sure=False, why=f"not confident: {why}", signals=orjson.dumps(told).decode())


_NOT_MEASURED = {
    "logprobs": "no log-probabilities came",
    "agreement": "no answer came",
    "verifier": "no verdict came",
}


class Cascades:
    """A tier's rules of the cascade, and what this process has learned of its deployments."""

    def __init__(self, settings: Settings, tier: str) -> None:
        self._settings = settings
        self._tier = tier
        self._silent: set[str] = set()
        """Deployments whose models were found to give no log-probabilities."""

    def judge(self, spec: SpecBody, require: dict[str, str]) -> Judge | None:
        """Who judges this tier's answer to such a task; None where it is kept as it is."""
        settings = self._settings
        if not settings.cascade:
            return None
        rule = find_rule(settings.cascade, spec.type, spec.name, self._tier, settings.tier_names)
        if rule is None:
            return None
        return Judge(rule, spec, settings.verifier(rule, require))

    def gives_logprobs(self, deployment: str) -> bool:
        """Whether log-probabilities are worth asking for, as far as this process knows."""
        return deployment not in self._silent

    def no_logprobs(self, deployment: str) -> None:
        """A deployment refused a call because its model gives none: it is not asked for any again."""
        if deployment not in self._silent:
            self._silent.add(deployment)
            log.error(
                "deployment %s: its model gives no log-probabilities, and is not asked for them again; where a "
                "[[cascade]] judges its answers by them, all of those escalate: use signal = 'agreement' there, or "
                "'verifier'",
                deployment,
            )


def permit_for(ask: Ask, desk: Desk, tokens: float, left_s: float | None) -> Permit | None:
    """A permit for a judge's call; None where its deployment is broken or out, or no time is left.

    A rate limit alone holds it not back: the answer that it is about is paid for, so later tasks wait for it instead.
    """
    if left_s is not None and left_s <= 0:
        return None
    wanted = tokens + ask.answer_bytes / BYTES_PER_TOKEN
    answer = desk.ask(ask.deployment.name, wanted)
    if isinstance(answer, Permit):
        return answer
    return desk.insist(ask.deployment.name, wanted) if answer.kind is RestKind.THROTTLED else None


def _compared(sureness: float, threshold: float) -> str:
    """Both numbers, with as many digits as tell them apart."""
    for digits in range(2, 8):
        left, right = f"{sureness:.{digits}f}", f"{threshold:.{digits}f}"
        if left != right:
            break
    return f"{left} < {right}"
