"""Which requests meet a fault: drawn by seed, counted, or called for by an outage."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

from tierq_simulator.chance import fraction
from tierq_simulator.settings import ConfigError, Fault, Resolved, parse_fault

_TASKS_REMEMBERED = 100_000


class Faults:
    """Draws faults. One draw a request decides among all, so that rates add up as written; per-task faults draw once
    more, by the input alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seen: Counter[str] = Counter()
        self._seen_tasks: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._sequence: Counter[str] = Counter()

    def choose(self, resolved: Resolved, model: str, text: str) -> Fault | None:
        """The fault this request meets, if any."""
        if not resolved.faults:
            return None
        self._sequence[model] += 1
        draws = {
            False: fraction(self._seed, "fault", model, self._sequence[model]),
            True: fraction(self._seed, "fault of task", text),
        }
        edges = {False: 0.0, True: 0.0}
        chosen = None
        for place, fault in resolved.faults:
            if not self._within_first(fault, place, text):
                continue
            low = edges[fault.per_task]
            edges[fault.per_task] = low + fault.rate
            if chosen is None and low <= draws[fault.per_task] < low + fault.rate:
                chosen = fault
        return chosen

    def _within_first(self, fault: Fault, place: str, text: str) -> bool:
        if fault.first is None:
            return True
        if not fault.per_task:
            self._seen[place] += 1
            return self._seen[place] <= fault.first
        task = (place, text)
        seen = self._seen_tasks[task] = self._seen_tasks.pop(task, 0) + 1
        if len(self._seen_tasks) > _TASKS_REMEMBERED:
            self._seen_tasks.popitem(last=False)
        return seen <= fault.first


@dataclass(frozen=True, slots=True)
class Outage:
    """A fault that every request of a provider or a model meets, until a time or until it is lifted."""

    provider: str | None
    model: str | None
    fault: Fault
    until: float | None

    def hits(self, provider: str, model: str, now: float) -> bool:
        """Whether it holds for this request."""
        if self.until is not None and now >= self.until:
            return False
        return self.provider in (None, provider) and self.model in (None, model)


def parse_outage(raw: object, now: float) -> Outage:
    """Read an outage as JSON gives it: provider and/or model, a fault's fields, seconds."""
    if not isinstance(raw, dict):
        raise ConfigError("outage: an object is expected")
    rest: dict[str, Any] = {"kind": "overloaded", **raw}
    provider, model, seconds = rest.pop("provider", None), rest.pop("model", None), rest.pop("seconds", None)
    if seconds is not None and (not isinstance(seconds, int | float) or seconds < 0):
        raise ConfigError("outage.seconds: a number of at least 0, or null, is expected")
    if not all(name is None or isinstance(name, str) for name in (provider, model)):
        raise ConfigError("outage: provider and model are strings")
    return Outage(provider, model, parse_fault(rest, "outage"), None if seconds is None else now + seconds)
