"""What `tierq deployments` says of deployments, their limits and their history: to people, as JSON, to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_workers.permits.figures import Reading, read
from tierq_workers.permits.history import BreakerSeen, Condition, Event, LimitSeen, Report

_STYLES = {
    Condition.CLOSED: "green",
    Condition.HALF_OPEN: "yellow",
    Condition.OPEN: "red",
    Condition.RESTING: "red",
    Condition.PAUSED: "yellow",
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
        calls = (f"{one.calls:,}", f"{one.failures:,}" if one.failures else "")
        named = (Text(one.deployment), Text(f"{one.provider} {one.model}"), tiers, standing(one))
        table.add_row(*named, *calls, Text(one.limit))
    return table


def standing(one: BreakerSeen) -> Text:
    """Whether a deployment may be called, in words and a colour."""
    return Text(_state(one), style=_STYLES[one.condition])


def _state(one: BreakerSeen) -> str:
    match one.condition:
        case Condition.OPEN:
            return f"open for {_roughly(one.seconds)} more"
        case Condition.HALF_OPEN:
            return "half open, probing" if one.is_probing else "half open: to be probed"
        case Condition.RESTING:
            return f"resting {_roughly(one.seconds)}: quota exhausted"
        case Condition.PAUSED:
            return "paused by an operator"
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


def exposition(report: Report) -> str:
    """The report in Prometheus's text format; what is not known has no sample."""
    return "\n".join([*(line for reading in read(report) for line in _exposed(reading)), ""])


def _exposed(reading: Reading) -> Iterator[str]:
    figure = reading.figure
    yield f"# HELP {figure.name} {figure.help}"
    yield f"# TYPE {figure.name} {figure.kind}"
    for name, value in reading.values:
        yield f'{figure.name}{{{reading.label}="{_escaped(name)}"}} {value:.15g}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
