"""The demo's closing report, from the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tierq_console.report_view import saving_told
from tierq_insight.report import Report
from tierq_shared.money import show_usd


def print_report(console: Console, report: Report, tiers: Sequence[str]) -> None:
    """Tasks by tier and type, calls by model and outcome, cost against one model for everything."""
    console.print(_tasks(report, tiers))
    console.print(_calls(report))
    ended = ", ".join(f"{count} {state}" for state, count in report.states.most_common())
    console.print(f"tasks: {ended}", highlight=False)
    for line in saving_told(report):
        console.print(line, highlight=False)
    if report.total.unpriced:
        console.print(f"{report.total.unpriced} calls of unknown price are not in it", highlight=False)
    moved = f"fail-overs: {report.moves_of('failover')}   escalations: {report.moves_of('escalation')}"
    console.print(f"{moved}   re-asks: {report.moves_of('reask')}", highlight=False)


def _tasks(report: Report, tiers: Sequence[str]) -> Table:
    table = Table(title="Tasks by type and the tier that did them", title_justify="left")
    table.add_column("type")
    for tier in tiers:
        table.add_column(tier, justify="right", min_width=8)
    for type_ in dict.fromkeys(group.type for group in report.tasks):
        ended = (_ended(report, type_, tier) for tier in tiers)
        table.add_row(type_, *[str(count or "–") for count in ended])
    return table


def _ended(report: Report, type_: str, tier: str) -> int:
    return report.tasks_that(lambda group: group.type == type_ and group.tier == tier)


def _calls(report: Report) -> Table:
    table = Table(title="Calls by tier and model (simulated answers)", title_justify="left")
    for name in ("tier", "model", "outcomes", "p50", "p95", "cost"):
        table.add_column(name, justify="left" if name in ("tier", "model", "outcomes") else "right")
    latencies = {one.model: one for one in report.latencies}
    for tier, model, outcomes, cost in _by_size(report):
        latency = latencies.get(model)
        spans = (f"{latency.p50_ms} ms", f"{latency.p95_ms} ms") if latency else ("–", "–")
        told = " · ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        table.add_row(tier, model, told, *spans, show_usd(cost))
    return table


def _by_size(report: Report) -> list[tuple[str, str, Counter[str], int]]:
    """The models of each tier with the most calls first: their outcomes, and what they cost."""
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    costs: Counter[tuple[str, str]] = Counter()
    for cell in report.cells:
        place = (cell.tier, cell.model)
        outcomes.setdefault(place, Counter())[cell.outcome] += cell.sums.calls
        costs[place] += cell.sums.cost_nusd
    places = sorted(outcomes, key=lambda place: (-outcomes[place].total(), place))
    return [(*place, outcomes[place], costs[place]) for place in places]
