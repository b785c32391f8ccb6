"""A report as JSON, and its split as rows: costs are USD as exact text, shares parts of 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tierq_insight.report.figures import Line, Report, Saving, Sums
from tierq_shared.money import usd

COLUMNS = ("calls", "answers", "input_tokens", "output_tokens", "cost_usd", "unpriced")
"""What a row of the split holds after its name."""


def document(report: Report) -> dict[str, Any]:
    """For `--json`. Its keys are a promise; more may be added."""
    scope, concentration, cache = report.scope, report.concentration, report.cache
    return {
        "scope": {"batch_id": scope.batch_id, "since": _iso(scope.since), "until": _iso(scope.until)},
        "made_at": _iso(report.made_at),
        "first_call": _iso(report.first),
        "last_call": _iso(report.last),
        "total": _sums(report.total),
        "tasks": dict(sorted(report.states.items())),
        "simple": {"tier": report.cheapest_tier, "share": report.simple_share},
        "by": {"dimension": report.by, "lines": [_line(line) for line in report.lines]},
        "over_time": {"unit": report.unit, "lines": [_line(line) for line in _times(report)]},
        "by_tier": [_line(line) for line in report.split(lambda cell: cell.tier)],
        "by_model": [_line(line) for line in report.split(lambda cell: cell.model)],
        "by_type": [_line(line) for line in report.split(lambda cell: cell.type)],
        "uses": [_line(line) for line in report.uses],
        "outcomes": [_line(line) for line in report.split(lambda cell: cell.outcome)],
        "latencies": [asdict(one) for one in report.latencies],
        "failovers": report.moves_of("failover"),
        "escalations": report.moves_of("escalation"),
        "reasks": report.moves_of("reask"),
        "moves": [asdict(one) for one in report.moves],
        "dearest": {
            "tasks": concentration.dearest,
            "of_tasks": concentration.tasks,
            "cost_usd": _usd(concentration.dearest_nusd),
            "of_cost_usd": _usd(concentration.cost_nusd),
            "parts": [_with_usd(asdict(one)) for one in concentration.parts],
        },
        "cache": {"hits": cache.hits, "spared_usd": _usd(cache.spared_nusd), "unpriced": cache.unpriced},
        "saving": _saving(report.saving) if report.saving else None,
        "no_saving": report.no_saving or None,
        "judged": [asdict(one) for one in report.judged],
        "breakers": None if report.breakers is None else [asdict(one) for one in report.breakers],
        "no_breakers": report.no_breakers or None,
        "quotes": [{**_with_usd(asdict(one)), "error": one.error} for one in report.quotes],
    }


def rows(report: Report) -> Iterator[dict[str, Any]]:
    """The split that was asked for, a row each."""
    for line in report.lines:
        yield {report.by: _as_text(line.name), **_sums(line.sums)}


def _as_text(name: str) -> str:
    """A name that a spreadsheet does not take for a formula: tags and models may begin with anything."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _saving(saving: Saving) -> dict[str, Any]:
    share = saving.share
    return {
        "baseline": {"deployment": saving.baseline.deployment, "model": saving.baseline.model},
        "answers": saving.answers,
        "input_tokens": saving.input_tokens,
        "output_tokens": saving.output_tokens,
        "cost_usd": _usd(saving.cost_nusd),
        "baseline_usd": _usd(saving.baseline_nusd),
        "saved_usd": _usd(saving.saved_nusd),
        "saved_share": saving.saved_share,
        "saved_share_95": None if share is None else [share.lower, share.upper],
        "unpriced": saving.unpriced,
        "is_upper_bound": saving.unpriced > 0,
    }


def _times(report: Report) -> list[Line]:
    return sorted(report.split(lambda cell: cell.time), key=lambda line: line.name)


def _line(line: Line) -> dict[str, Any]:
    return {"name": line.name, **_sums(line.sums)}


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "answers": sums.answers,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": _usd(sums.cost_nusd),
        "unpriced": sums.unpriced,
    }


def _with_usd(values: dict[str, Any]) -> dict[str, Any]:
    """With money as USD, under names that say so."""
    return {
        name.replace("_nusd", "_usd"): _usd(value) if name.endswith("_nusd") else value
        for name, value in values.items()
    }


def _usd(nusd: int | None) -> str | None:
    exact = usd(nusd)
    return None if exact is None else f"{exact:f}"


def _iso(time: Any) -> str | None:
    return None if time is None else time.isoformat()
