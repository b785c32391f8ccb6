"""The fields that every task has, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from tierq_shared import checks
from tierq_shared.errors import InvalidTask

Stakes = Literal["low", "normal", "high"]
Urgency = Literal["interactive", "standard", "relaxed"]
STAKES: tuple[Stakes, ...] = ("low", "normal", "high")
URGENCIES: tuple[Urgency, ...] = ("interactive", "standard", "relaxed")

PRIORITY_BY_URGENCY: dict[Urgency, int] = {"interactive": 9, "standard": 5, "relaxed": 1}
"""The priority of a task that names none: 0 (last) to 9 (first)."""


class TaskOptions(TypedDict, total=False):
    """The fields that every task has. `TaskOptions` is what `**options` takes, wherever it stands."""

    tier: str
    """Pins the task to this tier: no policy, no escalation."""
    min_tier: str
    max_tier: str
    stakes: Stakes
    """What a wrong answer costs the user: a signal for the policy."""
    urgency: Urgency
    """Who waits for it: `interactive` (a person), `standard`, `relaxed` (any time before the deadline)."""
    priority: int
    """0 (last) to 9 (first); follows from the urgency where not given."""
    deadline: datetime | timedelta
    """When the answer is of no more use: a point in time with its zone, or a span from submission."""
    require: Mapping[str, str]
    """What the deployment must have, such as `{"region": "eu"}`; holds on fail-over and escalation too."""
    tags: Mapping[str, str]
    max_cost: object
    """Refused until cost caps are enforced."""


class SpecOptions(TaskOptions, total=False):
    """What a spec may add to its type's own fields; a task's options given here hold for every task of the spec."""

    instructions: str | None
    """What the model is told about this kind of task, before the input."""
    examples: Sequence[Mapping[str, Any]]
    """Worked examples for the prompt, each `{"input": …, "output": …}`."""
    max_output_tokens: int | None


def check_options(options: TaskOptions) -> TaskOptions:
    for name, value in options.items():
        check = _OPTION_CHECKS.get(name)
        if check is None:
            raise InvalidTask(f"there is no such field{checks.did_you_mean(name, _OPTION_CHECKS)}", field=name)
        check(value)
    if "tier" in options and ("min_tier" in options or "max_tier" in options):
        raise InvalidTask(
            "pins the tier, so min_tier and max_tier have no meaning: give one or the other", field="tier"
        )
    return options


def _check_priority(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise InvalidTask("must be a whole number from 0 (last) to 9 (first)", field="priority")


def _check_deadline(value: object) -> None:
    if isinstance(value, timedelta):
        if value <= timedelta(0):
            raise InvalidTask("must be a span of time after submission", field="deadline")
    elif not isinstance(value, datetime):
        raise InvalidTask("must be a datetime with its zone, or a timedelta from submission", field="deadline")
    elif value.tzinfo is None:
        raise InvalidTask("has no time zone: give datetime.now(UTC) + …, or a timedelta", field="deadline")


def _refuse_max_cost(_value: object) -> None:
    raise InvalidTask(
        "cost caps are not enforced in this release, so they are refused: leave max_cost out", field="max_cost"
    )


_OPTION_CHECKS: dict[str, Callable[[object], object]] = {
    "tier": lambda value: checks.text(value, "tier"),
    "min_tier": lambda value: checks.text(value, "min_tier"),
    "max_tier": lambda value: checks.text(value, "max_tier"),
    "stakes": lambda value: checks.choice(value, "stakes", STAKES),
    "urgency": lambda value: checks.choice(value, "urgency", URGENCIES),
    "priority": _check_priority,
    "deadline": _check_deadline,
    "require": lambda value: checks.string_map(value, "require"),
    "tags": lambda value: checks.string_map(value, "tags"),
    "max_cost": _refuse_max_cost,
}
