"""What `tierq deployments` says of deployments, their limits and their history: to people, as JSON, to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_workers.permits.history import BreakerSeen, Condition, Event, LimitSeen, Report

_STYLES = {
    Condition.CLOSED: "green",
    Condition.HALF_OPEN: "yellow",
    Condition.OPEN: "red",
    Condition.RESTING: "red",
}


@dataclass(frozen=True)
class Seen:
    """One look: all deployments, or one with its history."""

    report: Report
    history: Sequence[Event] | None = None
    """Newest first; None where all deployments are meant."""

    def json(self) -> dict[str, Any]:
        """For `--json`; spans are seconds, times UTC."""
        found = {
            "deployments": [asdict(one) for one in self.report.breakers],
            "limits": [asdict(one) for one in self.report.limits],
        }
        if self.history is None:
            return found
        return {**found, "history": [{**asdict(one), "at": one.at.isoformat()} for one in self.history]}

    def tables(self) -> list[RenderableType]:
        """For people."""
        tables: list[RenderableType] = [_deployments(self.report.breakers), "", _limits(self.report.limits)]
        if self.history is not None:
            tables += ["", _events(self.history)]
        return tables


def _deployments(breakers: Sequence[BreakerSeen]) -> RenderableType:
    counts = [Column(name, justify="right", no_wrap=True) for name in ("calls", "failed")]
    table = Table(
        Column("deployment", overflow="fold"),
        Column("model", overflow="fold"),
        Column("tiers", overflow="fold"),
        Column("state", overflow="fold"),
        *counts,
        Column("limit", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    for one in breakers:
        tiers = ", ".join(f"{tier} {place}" for tier, place in one.tiers.items()) or "none"
        state = Text(_state(one), style=_STYLES[one.condition])
        calls = (f"{one.calls:,}", f"{one.failures:,}" if one.failures else "")
        table.add_row(Text(one.deployment), Text(f"{one.provider} {one.model}"), tiers, state, *calls, Text(one.limit))
    return table


def _state(one: BreakerSeen) -> str:
    match one.condition:
        case Condition.OPEN:
            return f"open for {_roughly(one.seconds)} more"
        case Condition.HALF_OPEN:
            return "half open, probing" if one.is_probing else "half open: to be probed"
        case Condition.RESTING:
            return f"resting {_roughly(one.seconds)}: quota exhausted"
        case Condition.CLOSED:
            return "closed"


def _limits(limits: Sequence[LimitSeen]) -> RenderableType:
    table = Table(
        Column("limit", overflow="fold"),
        "calls a minute",
        Column("used", justify="right"),
        "tokens a minute",
        "rests",
        Column("throttled", justify="right"),
        box=None,
        pad_edge=False,
    )
    for one in limits:
        used = "" if one.used is None else f"{one.used:.0%}"
        rests = _roughly(one.rest_s) if one.rest_s else ""
        bounds = (_bound(one.rpm, one.rpm_from), used, _bound(one.tpm, one.tpm_from))
        table.add_row(Text(one.name), *bounds, rests, f"{one.cuts:,} ×" if one.cuts else "")
    return table


def _bound(value: float | None, source: str | None) -> str:
    return "no limit known" if value is None else f"{value:,.0f} {source}"


def _events(history: Sequence[Event]) -> RenderableType:
    if not history:
        return "nothing has happened to it yet"
    table = Table(Column("when", no_wrap=True), "what", "why", box=None, pad_edge=False)
    for event in history:
        when = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, _happened(event), Text(event.why or ""))
    return table


def _happened(event: Event) -> str:
    if event.rpm is not None:
        return f"throttled: {event.rpm:,.0f} calls a minute"
    if event.seconds is not None:
        return f"{event.state} for {_roughly(event.seconds)}"
    return event.state


def _roughly(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


_LEVELS = {Condition.CLOSED: 0, Condition.HALF_OPEN: 1, Condition.OPEN: 2, Condition.RESTING: 3}


@dataclass(frozen=True)
class _Metric:
    name: str
    kind: str
    help: str
    value: Callable[[Any], float | None]


_OF_DEPLOYMENTS = (
    _Metric(
        "tierq_breaker_state",
        "gauge",
        "0 closed, 1 half open, 2 open, 3 resting because its quota is exhausted.",
        lambda one: _LEVELS[one.condition],
    ),
    _Metric(
        "tierq_breaker_openings_total",
        "counter",
        "How often the breaker opened, failed probes among them.",
        lambda one: one.openings,
    ),
    _Metric("tierq_breaker_wait_seconds", "gauge", "Until it may be probed or has rested.", lambda one: one.seconds),
    _Metric("tierq_breaker_window_calls", "gauge", "Calls of the last 10 to 20 seconds.", lambda one: one.calls),
    _Metric("tierq_breaker_window_failures", "gauge", "Those of them that failed.", lambda one: one.failures),
)
_OF_LIMITS = (
    _Metric("tierq_limit_rpm", "gauge", "Calls a minute that are allowed now.", lambda one: one.rpm),
    _Metric("tierq_limit_tpm", "gauge", "Tokens a minute that are allowed.", lambda one: one.tpm),
    _Metric("tierq_limit_used_ratio", "gauge", "The part of tierq_limit_rpm that is used.", lambda one: one.used),
    _Metric("tierq_limit_rest_seconds", "gauge", "Until the provider may be called again.", lambda one: one.rest_s),
    _Metric("tierq_limit_cuts_total", "counter", "How often being throttled lowered the rate.", lambda one: one.cuts),
)


def exposition(report: Report) -> str:
    """The report in Prometheus's text format; what is not known has no sample."""
    lines = [
        *_exposed(_OF_DEPLOYMENTS, "deployment", [(one.deployment, one) for one in report.breakers]),
        *_exposed(_OF_LIMITS, "limit", [(one.name, one) for one in report.limits]),
    ]
    return "\n".join([*lines, ""])


def _exposed(metrics: Sequence[_Metric], label: str, seen: Sequence[tuple[str, Any]]) -> Iterator[str]:
    for metric in metrics:
        yield f"# HELP {metric.name} {metric.help}"
        yield f"# TYPE {metric.name} {metric.kind}"
        for name, one in seen:
            value = metric.value(one)
            if value is not None:
                yield f'{metric.name}{{{label}="{_escaped(name)}"}} {value:.15g}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
