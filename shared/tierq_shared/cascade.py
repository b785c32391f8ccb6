"""The cascade: for which tasks a cheap tier answers first, and how sure its answer must be to be kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tierq_shared.checks import did_you_mean
from tierq_shared.deployments import Deployment, Provider
from tierq_shared.specs import TaskType

Signal = Literal["logprobs", "agreement", "verifier"]

LOGPROB_PROVIDERS: frozenset[Provider] = frozenset({"openai", "openai-compatible", "gemini"})
"""Providers whose formats have log-probabilities. Anthropic's Messages have none."""

UNSUITED: dict[Signal, dict[TaskType, str]] = {
    "logprobs": {
        "answer": "the probability of a long text says little of whether it is right",
        "generate": "the probability of a long text says little of whether it is right",
    },
    "agreement": {"generate": "no two free texts are the same"},
    "verifier": {},
}
"""Types that a signal cannot judge, with why."""

SECOND_OPINIONS = ("sample", "verify")
"""The lanes of calls that measure how sure an answer is. They are charged, and are no tries: none counts as failed."""


class CascadeRule(BaseModel):
    """One `[[cascade]]` table. The first that names a task's type, name and tier decides, as in the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: TaskType
    name: str | None = None
    """The spec's name; every one where None."""
    signal: Signal
    samples: int | None = Field(default=None, ge=2, le=9)
    """Calls in all that must agree; `DEFAULT_SAMPLES` where None. For `agreement` alone."""
    verifier: str | None = None
    """The deployment that says whether an answer is right. For `verifier` alone."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """The least confidence with which an answer is kept. None only measures: every answer is kept."""
    calibrated: str | None = None
    """What the threshold was calibrated from, such as an evaluation's id; None says that it was set by hand."""
    tiers: list[str] | None = Field(default=None, min_length=1)
    """The tiers whose answers are judged; all but the last where None."""

    @property
    def calls(self) -> int:
        """How many answers `agreement` compares."""
        return self.samples or DEFAULT_SAMPLES

    def matches(self, type_: str, name: str, tier: str, tiers: Sequence[str]) -> bool:
        """Whether it speaks of such a task's answers on this tier, of these tiers in order."""
        return self.type == type_ and self.name in (None, name) and tier in self.starts(tiers)

    def starts(self, tiers: Sequence[str]) -> list[str]:
        """The tiers that it starts from."""
        return list(tiers[:-1]) if self.tiers is None else self.tiers


DEFAULT_SAMPLES = 3


def find_rule(
    rules: Iterable[CascadeRule], type_: str, name: str, tier: str, tiers: Sequence[str]
) -> CascadeRule | None:
    """The first rule for such tasks on this tier; None where nothing judges them there."""
    return next((rule for rule in rules if rule.matches(type_, name, tier, tiers)), None)


def check_rules(
    rules: Sequence[CascadeRule], chains: Mapping[str, Sequence[str]], deployments: Mapping[str, Deployment]
) -> None:
    """Passes where every rule can do what it says. ``chains``: the names of each tier's deployments, in order.

    Raises:
        ValueError: one cannot; the message begins with its place, such as `cascade.0.signal`.
    """
    for number, rule in enumerate(rules):
        fault = _fault(rule, chains, deployments)
        if fault is not None:
            key, message = fault
            raise ValueError(f"cascade.{number}.{key}: {message}")


Fault = tuple[str, str]
"""The key at fault, and what is wrong with it."""


def _fault(
    rule: CascadeRule, chains: Mapping[str, Sequence[str]], deployments: Mapping[str, Deployment]
) -> Fault | None:
    return (
        _fault_of_tiers(rule, list(chains))
        or _fault_of_signal(rule)
        or _fault_of_verifier(rule, deployments)
        or next(
            (
                fault
                for tier in rule.starts(list(chains))
                for name in chains[tier]
                if (fault := _fault_of_deployment(rule, tier, deployments[name]))
            ),
            None,
        )
    )


def _fault_of_tiers(rule: CascadeRule, tiers: Sequence[str]) -> Fault | None:
    if len(tiers) < 2:
        return "type", "a cascade needs two tiers: with one, there is nothing to go up to"
    for tier in rule.tiers or ():
        if tier not in tiers:
            return "tiers", f"there is no tier {tier!r}{did_you_mean(tier, tiers)}"
        if tier == tiers[-1]:
            return "tiers", f"{tier!r} is the last tier, so nothing is above it to go up to: leave it out"
    return None


def _fault_of_signal(rule: CascadeRule) -> Fault | None:
    why = UNSUITED[rule.signal].get(rule.type)
    if why is not None:
        return "signal", f"{rule.signal} does not suit type = {rule.type!r}, since {why}: use signal = 'verifier'"
    if rule.samples is not None and rule.signal != "agreement":
        return "samples", "goes with signal = 'agreement' alone: leave it out"
    if rule.verifier is not None and rule.signal != "verifier":
        return "verifier", "goes with signal = 'verifier' alone: leave it out"
    if rule.calibrated is not None and rule.threshold is None:
        return "calibrated", "says where the threshold is from, and there is none: give threshold, or leave it out"
    return None


def _fault_of_verifier(rule: CascadeRule, deployments: Mapping[str, Deployment]) -> Fault | None:
    if rule.signal != "verifier":
        return None
    if rule.verifier is None:
        return "signal", "'verifier' needs to know who verifies: name a deployment in verifier = …"
    if rule.verifier not in deployments:
        return "verifier", f"no deployment is named {rule.verifier!r}{did_you_mean(rule.verifier, deployments)}"
    return None


def _fault_of_deployment(rule: CascadeRule, tier: str, deployment: Deployment) -> Fault | None:
    where = f"deployment {deployment.name!r} of tier {tier!r}"
    if rule.signal == "logprobs" and deployment.provider not in LOGPROB_PROVIDERS:
        message = f"{deployment.provider} gives no log-probabilities, and {where} is one of its: use"
        return "signal", f"{message} signal = 'agreement' or 'verifier', or name tiers without {tier!r}"
    if rule.signal == "agreement" and (fixed := _fixed_by(deployment.params)):
        message = f"{where} has {fixed}, so its samples would all be the same: leave that out of its params"
        return "signal", f"{message}, or use another signal"
    return None


def _fixed_by(params: Mapping[str, Any]) -> str | None:
    """The parameter that makes every answer of a deployment to the same prompt the same one; None where none does."""
    own = params.get("generationConfig")
    given = {**params, **own} if isinstance(own, dict) else params
    for name in ("temperature", "top_p", "topP"):
        value = given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isclose(value, 0):
            return f"{name} = 0"
    return "a seed" if given.get("seed") is not None else None
