"""Turns a caller's tasks into rows to be: checked, decided, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from tierq_shared.checks import did_you_mean
from tierq_shared.errors import InvalidTask
from tierq_shared.options import PRIORITY_BY_URGENCY
from tierq_shared.policy import Decision, Policy
from tierq_shared.settings import REQUIRABLE, Settings
from tierq_shared.store.submission import NewTask
from tierq_shared.tasks import Task


class Intake:
    """Prepares the tasks of one batch. ``now`` gives the database's time, asked for once where a deadline needs it."""

    def __init__(
        self, settings: Settings, policy: Policy, now: Callable[[], datetime], deadline: datetime | None
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._read_now = now
        self._now: datetime | None = None
        self._deadline = deadline

    def prepare(self, task: Task[Any], position: int) -> NewTask:
        """A task as it goes into the store.

        Raises:
            InvalidTask: what was handed in is no task, or no tier may run it; with position and field.
        """
        if not isinstance(task, Task):
            raise InvalidTask(
                f"is a {type(task).__name__}, not a task: make it with Classify, Extract, Answer or Generate",
                position=position,
            )
        try:
            return self._prepare(task)
        except InvalidTask as error:
            raise error.at(position) from None

    def _prepare(self, task: Task[Any]) -> NewTask:
        options = task.options
        input_json = task.input_json
        encoded = input_json.encode()
        digest = hashlib.sha256(task.content.id.encode() + encoded).hexdigest()[:32]
        decision = self._policy.decide(task, len(encoded))
        if "require" in options:
            decision = self._meet(decision, dict(options["require"]), options.get("max_tier"))
        urgency = options.get("urgency", "standard")
        return NewTask(
            key=task.key,
            spec=task.content,
            payload_hash=digest,
            input_json=input_json,
            decision=decision,
            priority=options.get("priority", PRIORITY_BY_URGENCY[urgency]),
            urgency=urgency,
            tags=orjson.dumps(dict(options["tags"])).decode() if options.get("tags") else None,
            deadline=self._deadline_of(options.get("deadline")),
            constraints=_constraints(task),
        )

    def _meet(self, decision: Decision, require: dict[str, str], max_tier: str | None) -> Decision:
        """The decision, moved up to the first tier that has a deployment with all that is required."""
        for name in require:
            if name not in REQUIRABLE:
                hint = did_you_mean(name, REQUIRABLE)
                raise InvalidTask(
                    f"{name!r} cannot be required{hint}; what can: {', '.join(REQUIRABLE)}", field="require"
                )
        if not self._settings.tiers:
            raise InvalidTask(
                "cannot be checked: this producer has no tierq.toml that names deployments", field="require"
            )
        tier: str | None = decision.tier
        while tier is not None:
            if self._settings.serves(tier, require):
                moved = "" if tier == decision.tier else f"; raised to {tier}, the first with {_words(require)}"
                return Decision(tier, decision.reason + moved, decision.signals, decision.policy_version)
            tier = None if decision.reason.startswith("pinned") else self._policy.next_tier(tier, max_tier)
        raise InvalidTask(f"no deployment that this task may use has {_words(require)}", field="require")

    def _deadline_of(self, deadline: datetime | timedelta | None) -> datetime | None:
        if isinstance(deadline, timedelta):
            if self._now is None:
                self._now = self._read_now()
            deadline = self._now + deadline
        if deadline is None or self._deadline is None:
            return deadline or self._deadline
        return min(deadline, self._deadline)


def _constraints(task: Task[Any]) -> str | None:
    """What holds on fail-over and escalation too, as JSON; None for most tasks."""
    found: dict[str, Any] = {}
    if "tier" in task.options:
        found["pinned"] = True
    if "max_tier" in task.options:
        found["max_tier"] = task.options["max_tier"]
    if "require" in task.options:
        found["require"] = dict(task.options["require"])
    return orjson.dumps(found).decode() if found else None


def _words(require: dict[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in require.items())
