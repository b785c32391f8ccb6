"""The fields that every task has, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypedDict

from tierq_shared import checks
from tierq_shared.errors import InvalidTask
from tierq_shared.money import to_nano

Stakes = Literal["low", "normal", "high"]
Urgency = Literal["interactive", "standard", "relaxed"]
WhenReached = Literal["wait", "downgrade", "fail"]
"""What tasks do that a cap holds back: wait for room, go to a lower tier where their call fits, or fail."""
Usd = str | int | float | Decimal
"""An amount of USD. It is kept exactly; a float is taken as what it prints."""
STAKES: tuple[Stakes, ...] = ("low", "normal", "high")
WHEN_REACHED: tuple[WhenReached, ...] = ("wait", "downgrade", "fail")
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
    max_cost: Usd
    """The most USD that all its calls together may cost, each at its worst case before it is made."""
    cache: bool | timedelta
    """Whether the answer to an identical task will do, or how old it may be. Not with `require`."""
    store_input: bool
    """False: its input is erased with the commit that ends it. It can then not be sent again."""


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


def _check_store_input(value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidTask("must be True or False", field="store_input")


MAX_CACHE_AGE = timedelta(days=3_650)


def _check_cache(value: object) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, timedelta):
        raise InvalidTask("must be True, False, or a timedelta: how old an answer may be", field="cache")
    if not timedelta(0) < value <= MAX_CACHE_AGE:
        raise InvalidTask(f"must be a span above zero and of at most {MAX_CACHE_AGE.days:,} days", field="cache")


def check_max_cost(value: object) -> int:
    """A cap in nano-USD.

    Raises:
        InvalidTask: it is no amount of USD above zero.
    """
    try:
        return to_nano(value)
    except ValueError as error:
        raise InvalidTask(str(error), field="max_cost") from None


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
    "max_cost": check_max_cost,
    "cache": _check_cache,
    "store_input": _check_store_input,
}
