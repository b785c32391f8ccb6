"""An evaluation for people and for machines: the quote before it, the table after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from tierq_console.evaluating import Quote, Result
from tierq_console.summary import retry_hint
from tierq_insight.evaluation.measures import QUALITY
from tierq_insight.evaluation.report import Line, bucket_in_words
from tierq_shared.intervals import Interval
from tierq_shared.money import show_usd, usd
from tierq_shared.quoting.figures import Range

_HEADINGS = {
    "macro_f1": "macro-F1",
    "fields_right": "fields right",
    "exact_match": "exact",
    "answer_words": "words F1",
}
_ANY_WIDTH = 1_000
_RUNNING = ("$ per 1,000", "p50 ms", "p95 ms", "failed")


def quote_lines(quoted: Quote) -> list[str]:
    """What is about to be spent, by deployment and together."""
    lines = []
    for name, cost in quoted.costs.items():
        calls = quoted.calls[name]
        lines.append(f"  {name}: {calls:,} task{'s' if calls != 1 else ''}, {_range_in_words(cost)}")
    unpriced = any(cost is None for cost in quoted.costs.values())
    together = _range_in_words(quoted.total) + (" and what is unpriced" if unpriced else "")
    return [
        "About to run, by an estimate from the length of inputs and expected answers:",
        *lines,
        f"  all: {together}",
    ]


def print_result(console: Console, result: Result) -> None:
    """A table for each kind of task, then what it cost."""
    for (type_, name), lines in groupby(result.lines, key=lambda line: (line.type, line.name)):
        for table in _tables(console, type_, name, list(lines)):
            console.print(table)
            console.print()
    for line in summary_lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def summary_lines(result: Result) -> list[str]:
    cost = show_usd(result.cost_nusd) + (f" and {result.unpriced:,} unpriced" if result.unpriced else "")
    judge = f", the judge's {show_usd(result.judge_nusd)} in it" if result.judge_nusd else ""
    answers = f"{result.samples:,} samples on {', '.join(result.deployments)}"
    lines = [f"{answers} in {result.seconds:.1f} s, {cost}{judge} · evaluation {result.evaluation_id}"]
    if result.failed:
        lines.append(
            f"{result.failed:,} answers failed: {retry_hint(result.batch_id)}, and this command judges them anew"
        )
    if result.missing:
        lines.append(
            f"{result.missing:,} answers are no evidence: cancelled, expired, held back by a cap or not graded"
        )
    lines.append("next: `tierq policy derive --out policy.toml` makes a policy of it")
    return lines


def result_json(result: Result) -> dict[str, Any]:
    """For `--json`; costs are USD as exact text, but per 1,000, which is an estimate."""
    return {
        "evaluation_id": result.evaluation_id,
        "batch_id": result.batch_id,
        "samples": result.samples,
        "deployments": list(result.deployments),
        "cost_usd": f"{usd(result.cost_nusd):f}",
        "judge_usd": f"{usd(result.judge_nusd):f}",
        "unpriced": result.unpriced,
        "missing": result.missing,
        "failed": result.failed,
        "seconds": round(result.seconds, 3),
        "lines": [line.json() for line in result.lines],
    }


def _tables(console: Console, type_: str, name: str, lines: Sequence[Line]) -> list[Table]:
    """One table; two, of quality and of the rest, where the terminal is too narrow for all columns side by side."""
    kind = type_ if name == type_ else f"{type_} {name}"
    quality = [one for one in QUALITY[type_] if any(line.measures.get(one) for line in lines)]
    headings = [_HEADINGS.get(one, one) for one in quality]
    shares = [[_share(line.measures.get(one)) for one in quality] for line in lines]
    running = [_running(line) for line in lines]
    both = [[*one, *other] for one, other in zip(shares, running, strict=True)]
    title = f"{kind}: value, and its 95 % interval"
    table = _table(title, [*headings, *_RUNNING], lines, both)
    if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        return [table]
    return [_table(title, headings, lines, shares), _table(f"{kind}: cost and latency", _RUNNING, lines, running)]


def _table(title: str, headings: Sequence[str], lines: Sequence[Line], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("input", "deployment"):
        table.add_column(heading, overflow="fold")
    for heading in ("answers", *headings):
        table.add_column(heading, justify="right")
    for line, figures in zip(lines, cells, strict=True):
        table.add_row(_bucket(line), line.deployment, f"{line.answers:,}", *figures)
    return table


def _bucket(line: Line) -> str:
    return bucket_in_words(line.bucket).removesuffix(" tokens")


def _running(line: Line) -> list[str]:
    cost = line.measures["cost_usd_per_1000"]
    return [
        "unpriced" if cost is None else _figure(cost, _dollars),
        *[_figure(line.measures[one], "{:,.0f}".format) for one in ("p50_ms", "p95_ms")],
        _share(line.measures["failure_rate"]),
    ]


def _share(interval: Interval | None) -> str:
    return _figure(interval, "{:.3f}".format)


def _figure(interval: Interval | None, shown: Any) -> str:
    if interval is None:
        return "–"
    return f"{shown(interval.mean)}\n{shown(interval.lower)}–{shown(interval.upper)}"


def _dollars(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def _range_in_words(cost: Range[int] | None) -> str:
    if cost is None:
        return "unpriced"
    return f"{show_usd(cost.expected)} (likely {show_usd(cost.low)} to {show_usd(cost.high)})"
