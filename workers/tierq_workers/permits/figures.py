"""Deployments and limits in figures for monitors: what workers serve, and `tierq deployments --prometheus` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tierq_workers.permits.history import Condition, Report

LEVELS = {Condition.CLOSED: 0, Condition.HALF_OPEN: 1, Condition.OPEN: 2, Condition.RESTING: 3, Condition.PAUSED: 4}


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric. ``value`` reads it off a `BreakerSeen` or a `LimitSeen`; None where it is not known."""

    name: str
    kind: str
    help: str
    value: Callable[[Any], float | None]


OF_DEPLOYMENTS = (
    Figure(
        "tierq_breaker_state",
        "gauge",
        "0 closed, 1 half open, 2 open, 3 resting because its quota is exhausted, 4 paused.",
        lambda one: LEVELS[one.condition],
    ),
    Figure(
        "tierq_breaker_openings_total",
        "counter",
        "How often the breaker opened, failed probes among them.",
        lambda one: one.openings,
    ),
    Figure("tierq_breaker_wait_seconds", "gauge", "Until it may be probed or has rested.", lambda one: one.seconds),
    Figure("tierq_breaker_window_calls", "gauge", "Calls of the last 10 to 20 seconds.", lambda one: one.calls),
    Figure("tierq_breaker_window_failures", "gauge", "Those of them that failed.", lambda one: one.failures),
)
"""Each by `deployment`."""

OF_LIMITS = (
    Figure("tierq_limit_rpm", "gauge", "Calls a minute that are allowed now.", lambda one: one.rpm),
    Figure("tierq_limit_tpm", "gauge", "Tokens a minute that are allowed.", lambda one: one.tpm),
    Figure("tierq_limit_utilisation", "gauge", "The part of tierq_limit_rpm that is used.", lambda one: one.used),
    Figure("tierq_limit_rest_seconds", "gauge", "Until the provider may be called again.", lambda one: one.rest_s),
    Figure("tierq_limit_cuts_total", "counter", "How often being throttled lowered the rate.", lambda one: one.cuts),
)
"""Each by `limit`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure with all that is known of it."""

    figure: Figure
    label: str
    values: Sequence[tuple[str, float]]
    """By what the label says."""


def read(report: Report | None) -> Iterator[Reading]:
    """Every figure of a report; without values where there is none."""
    deployments = [(one.deployment, one) for one in report.breakers] if report else []
    limits = [(one.name, one) for one in report.limits] if report else []
    for figures, label, seen in ((OF_DEPLOYMENTS, "deployment", deployments), (OF_LIMITS, "limit", limits)):
        for figure in figures:
            found = [(name, figure.value(one)) for name, one in seen]
            yield Reading(figure, label, [(name, value) for name, value in found if value is not None])
