"""The policy: the table that decides a task's tier. First match decides, and every decision says why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from tierq_shared.errors import InvalidTask
from tierq_shared.options import Stakes, Urgency
from tierq_shared.specs import TaskType
from tierq_shared.tasks import Task

CONFIGURED = "config-"
"""How the version of a policy begins that comes from `tierq.toml`."""

BYTES_PER_TOKEN = 4
"""A rule of thumb for English text in the providers' tokenizers (OpenAI's help centre: about 4 characters a token)."""


CONDITIONS = ("type", "name", "max_input_tokens", "stakes", "urgency")
"""What a rule may ask of a task."""


class PolicyRule(BaseModel):
    """One row: every condition it names must hold; a row without conditions always matches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: str
    type: TaskType | None = None
    name: str | None = None
    """The spec's name."""
    max_input_tokens: int | None = Field(default=None, gt=0)
    stakes: Stakes | None = None
    urgency: Urgency | None = None

    def matches(self, signals: Signals) -> bool:
        return (
            self.type in (None, signals.type)
            and self.name in (None, signals.name)
            and self.stakes in (None, signals.stakes)
            and self.urgency in (None, signals.urgency)
            and (self.max_input_tokens is None or signals.input_tokens <= self.max_input_tokens)
        )

    def __str__(self) -> str:
        return f"{self.conditions} → {self.tier}"

    @property
    def conditions(self) -> str:
        """What it asks of a task, in words; `anything` where that is nothing."""
        asked = [(name, getattr(self, name)) for name in CONDITIONS]
        return " ".join(f"{name}={value}" for name, value in asked if value is not None) or "anything"


@dataclass(frozen=True, slots=True)
class Signals:
    """What a decision rests on."""

    type: TaskType
    name: str
    input_tokens: int
    stakes: Stakes
    urgency: Urgency

    def json(self) -> str:
        return orjson.dumps(self).decode()


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a task goes to a tier: the reason in words, what it rests on, and the policy it came from."""

    tier: str
    reason: str
    signals: Signals
    policy_version: str
    order: tuple[str, ...] = ()
    """The deployments that the policy has tried first there; none where the tier's own order holds."""


class Policy:
    """The rules in order, over the tiers in order (cheapest first).

    ``version`` is a hash of both where none is given, as it is for rules that come from `tierq.toml`.
    """

    def __init__(self, rules: Sequence[PolicyRule], tiers: Sequence[str], version: str | None = None) -> None:
        self.tiers = list(tiers)
        self.rules = list(rules)
        self.version = version or self._hashed()
        self._reasons = [f"rule {number}: {rule}" for number, rule in enumerate(rules, 1)]

    def _hashed(self) -> str:
        content: list[Any] = [self.tiers, [rule.model_dump(exclude_none=True) for rule in self.rules]]
        return CONFIGURED + hashlib.sha256(orjson.dumps(content)).hexdigest()[:8]

    def decide(self, task: Task[Any], input_bytes: int) -> Decision:
        """The tier of a task: its pin, else the first rule that matches, moved inside its min_tier and max_tier.

        Raises:
            InvalidTask: the task names a tier that does not exist.
        """
        signals = signals_of(task, input_bytes)
        pinned = task.options.get("tier")
        if pinned is not None:
            self._rank(pinned, "tier")
            return Decision(pinned, "pinned by the task", signals, self.version)
        tier, reason = self._first_match(signals)
        bounded, bound = self._bounded(tier, task)
        why = f"{reason}; {bound}" if bound else reason
        return Decision(bounded, why, signals, self.version, self.order(signals, bounded))

    def decide_by(self, signals: Signals) -> Decision:
        """The tier that the rules give for signals alone, where there is no task with a pin or a range of its own."""
        tier, reason = self._first_match(signals)
        return Decision(tier, reason, signals, self.version, self.order(signals, tier))

    def next_tier(self, tier: str, max_tier: str | None = None) -> str | None:
        """Where an escalation goes: the next tier up, or None where there is none or the task may not."""
        index = self.tiers.index(tier) + 1 if tier in self.tiers else len(self.tiers)
        if index >= len(self.tiers) or tier == max_tier:
            return None
        return self.tiers[index]

    def match(self, signals: Signals) -> int | None:
        """The index of the rule that decides; None where none matches."""
        for index, rule in enumerate(self.rules):
            if rule.matches(signals):
                return index
        return None

    def order(self, signals: Signals, tier: str) -> tuple[str, ...]:  # noqa: ARG002  # rules of a file name no order
        """The deployments that are tried first for a task on this tier; none where the tier's own order holds."""
        return ()

    def orders(self, tier: str) -> set[tuple[str, ...]]:  # noqa: ARG002
        """All that `order` may say for tasks of this tier."""
        return {()}

    def _first_match(self, signals: Signals) -> tuple[str, str]:
        index = self.match(signals)
        if index is not None:
            return self.rules[index].tier, self._reasons[index]
        # What no rule speaks of goes to the most capable tier: a wrong answer is dearer than a token.
        return self.tiers[-1], "no rule matches: the last tier"

    def _bounded(self, tier: str, task: Task[Any]) -> tuple[str, str | None]:
        low, high = task.options.get("min_tier"), task.options.get("max_tier")
        if low is None and high is None:
            return tier, None
        lowest = self._rank(low, "min_tier") if low is not None else 0
        highest = self._rank(high, "max_tier") if high is not None else len(self.tiers) - 1
        if lowest > highest:
            raise InvalidTask(f"min_tier {low!r} is above max_tier {high!r}", field="min_tier")
        rank = self.tiers.index(tier)
        if rank < lowest:
            return self.tiers[lowest], f"raised to min_tier {low}"
        if rank > highest:
            return self.tiers[highest], f"lowered to max_tier {high}"
        return tier, None

    def _rank(self, tier: str, field: str) -> int:
        if tier not in self.tiers:
            raise InvalidTask(f"there is no tier {tier!r}; the tiers are {', '.join(self.tiers)}", field=field)
        return self.tiers.index(tier)


def likely_tokens(input_bytes: int) -> int:
    """The size of an input in tokens, as routing takes it."""
    return -(-input_bytes // BYTES_PER_TOKEN)


def signals_of(task: Task[Any], input_bytes: int) -> Signals:
    return Signals(
        type=task.type,
        name=task.content.name,
        input_tokens=likely_tokens(input_bytes),
        stakes=task.options.get("stakes", "normal"),
        urgency=task.options.get("urgency", "standard"),
    )


DEFAULT_RULES: tuple[PolicyRule, ...] = (
    PolicyRule(stakes="high", tier="large"),
    PolicyRule(type="classify", max_input_tokens=4_000, tier="small"),
    PolicyRule(type="extract", max_input_tokens=2_000, tier="small"),
    PolicyRule(type="extract", tier="medium"),
    PolicyRule(type="answer", max_input_tokens=8_000, tier="medium"),
    PolicyRule(type="generate", stakes="low", max_input_tokens=2_000, tier="small"),
    PolicyRule(type="generate", max_input_tokens=8_000, tier="medium"),
    PolicyRule(tier="large"),
)
"""Where a configuration with the default tiers names no policy: simple and short work goes down, high stakes go up."""
