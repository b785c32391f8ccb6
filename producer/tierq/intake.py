"""Turns a caller's tasks into rows to be: checked, decided, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from tierq_shared.checks import did_you_mean
from tierq_shared.errors import InvalidTask
from tierq_shared.options import PRIORITY_BY_URGENCY, check_max_cost
from tierq_shared.policy import Decision, Policy
from tierq_shared.settings import REQUIRABLE, Settings
from tierq_shared.store.submission import NewTask
from tierq_shared.tasks import Task


class Intake:
    """Prepares the tasks of one batch.

    ``now`` gives the database's time, asked for once where a deadline needs it; ``parent`` is the trace context that
    each task keeps.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        now: Callable[[], datetime],
        deadline: datetime | None,
        parent: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self.policy = policy
        """Decides the tiers of the tasks that are prepared from now on."""
        self._read_now = now
        self._now: datetime | None = None
        self._deadline = deadline
        self._parent = parent or {}

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
        decision = self.policy.decide(task, len(encoded))
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
            constraints=_constraints(task, self._parent),
            max_cost_nusd=check_max_cost(options["max_cost"]) if "max_cost" in options else None,
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
                order = decision.order if tier == decision.tier else ()
                return replace(decision, tier=tier, reason=decision.reason + moved, order=order)
            tier = None if decision.reason.startswith("pinned") else self.policy.next_tier(tier, max_tier)
        raise InvalidTask(f"no deployment that this task may use has {_words(require)}", field="require")

    def _deadline_of(self, deadline: datetime | timedelta | None) -> datetime | None:
        if isinstance(deadline, timedelta):
            if self._now is None:
                self._now = self._read_now()
            deadline = self._now + deadline
        if deadline is None or self._deadline is None:
            return deadline or self._deadline
        return min(deadline, self._deadline)


def _constraints(task: Task[Any], parent: Mapping[str, str]) -> str | None:
    """What workers must know of it beside its row: what holds on fail-over and escalation too, its stakes, its trace.

    JSON; None for most tasks.
    """
    found: dict[str, Any] = dict(parent)
    if "tier" in task.options:
        found["pinned"] = True
    for bound in ("min_tier", "max_tier"):
        if bound in task.options:
            found[bound] = task.options[bound]
    if "require" in task.options:
        found["require"] = dict(task.options["require"])
    if task.options.get("stakes", "normal") != "normal":
        found["stakes"] = task.options["stakes"]
    if (allowed := task.options.get("cache")) and "require" not in task.options:
        # What a stored answer came from may not be what is required here.
        found["cache"] = allowed.total_seconds() if isinstance(allowed, timedelta) else True
    if not task.options.get("store_input", True):
        found["store_input"] = False
    return orjson.dumps(found).decode() if found else None


def _words(require: dict[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in require.items())
