"""The demo's closing report, from the ledger."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tierq_insight.batch_report import BatchReport
from tierq_shared.money import show_usd


def print_report(console: Console, report: BatchReport, baseline_model: str) -> None:
    """Tasks by tier and type, calls by model and outcome, cost against one model for everything."""
    console.print(_tasks(report))
    console.print(_calls(report))
    _print_cost(console, report, baseline_model)
    console.print(f"fail-overs: {report.failovers}   escalations: {report.escalations}", highlight=False)


def _tasks(report: BatchReport) -> Table:
    tiers = list(dict.fromkeys(line.tier for line in report.lines))
    table = Table(title="Tasks by type and the tier that did them", title_justify="left")
    table.add_column("type")
    for tier in tiers:
        table.add_column(tier, justify="right", min_width=8)
    for type_ in dict.fromkeys(type_ for type_, _ in report.types):
        table.add_row(type_, *[str(report.types[type_, tier] or "–") for tier in tiers])
    return table


def _calls(report: BatchReport) -> Table:
    table = Table(title="Calls by tier and model (simulated answers)", title_justify="left")
    for name in ("tier", "model", "outcomes", "p50", "p95", "cost"):
        table.add_column(name, justify="left" if name in ("tier", "model", "outcomes") else "right")
    for line in report.lines:
        outcomes = " · ".join(f"{count} {outcome}" for outcome, count in line.outcomes.most_common())
        table.add_row(
            line.tier, line.model, outcomes, f"{line.p50_ms} ms", f"{line.p95_ms} ms", show_usd(line.cost_nusd)
        )
    return table


def _print_cost(console: Console, report: BatchReport, baseline_model: str) -> None:
    ended = ", ".join(f"{count} {state}" for state, count in report.states.most_common())
    console.print(f"tasks: {ended}", highlight=False)
    if report.baseline_nusd:
        share = 100 - 100 * report.cost_nusd / report.baseline_nusd
        console.print(
            f"cost: {show_usd(report.cost_nusd)}, everything charged. On {baseline_model} alone the same tokens are\n"
            f"      {show_usd(report.baseline_nusd)}: {share:.0f} % less",
            highlight=False,
        )
    if report.unpriced:
        console.print(f"{report.unpriced} calls of unknown price are not in it", highlight=False)
