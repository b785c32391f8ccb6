"""What `tierq report` says on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_insight.report import Report
from tierq_insight.report.figures import Line, Saving
from tierq_shared.ids import short
from tierq_shared.money import show_usd

_MOST = 30
"""Lines of a split; --csv writes all of them."""


def told(report: Report) -> Iterator[RenderableType]:
    """For people: what it cost, where that went, what it saved."""
    if report.is_empty:
        yield f"there is nothing in the ledger {_asked(report)}"
        return
    yield Text(_headline(report), style="bold")
    yield from _warnings(report)
    yield ""
    yield from saving_told(report)
    yield ""
    yield _split(report)
    yield ""
    yield _uses(report)
    yield from _latencies(report)
    yield ""
    yield from _tasks(report)
    yield from _moves(report)
    yield from _breakers(report)
    yield from _quotes(report)


def saving_told(report: Report) -> Iterator[RenderableType]:
    """What one model for everything would have cost, as far as that can be said."""
    saving = report.saving
    if saving is None or saving.saved_share is None:
        yield Text(f"saving: not known; {report.no_saving or 'no task was answered by a call'}")
        return
    model = saving.baseline.model
    yield Text(
        f"cost: {show_usd(saving.cost_nusd)}, everything charged. On {model} alone the same {saving.answers:,}\n"
        f"      answers are {show_usd(saving.baseline_nusd)}: {_share(saving)}"
    )
    yield Text(
        f"      (cost only; assumed: {model} takes the same tokens, at list price, at the first try)", style="dim"
    )


def _share(saving: Saving) -> str:
    share = saving.saved_share or 0.0
    less = f"{abs(share):.1%} {'less' if share >= 0 else 'MORE'}"
    if saving.unpriced:
        bound = "at most" if share >= 0 else "at least"
        return f"{bound} {less}, since the price of {_calls(saving.unpriced)} is not known"
    if saving.share is None:
        return f"{less}; too few tasks for an interval"
    return f"{less}; 95 % interval {saving.share.lower:.1%} to {saving.share.upper:.1%}"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


def _asked(report: Report) -> str:
    scope = report.scope
    of = f"of batch {short(scope.batch_id)}" if scope.batch_id else "yet" if not (scope.since or scope.until) else ""
    since = f"since {scope.since:%Y-%m-%d %H:%M %Z}" if scope.since else ""
    until = f"until {scope.until:%Y-%m-%d %H:%M %Z}" if scope.until else ""
    return " ".join(filter(None, (of, since, until)))


def _headline(report: Report) -> str:
    total, tasks = report.total, sum(report.states.values())
    when = f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC" if report.first else "no call"
    batch = f"batch {short(report.scope.batch_id)} · " if report.scope.batch_id else ""
    return f"{batch}{show_usd(total.cost_nusd)} · {tasks:,} tasks · {total.calls:,} calls · {when}"


def _warnings(report: Report) -> Iterator[RenderableType]:
    total = report.total
    if total.unpriced:
        yield Text(
            f"UNPRICED: {_calls(total.unpriced)} of unknown price, in none of these sums: the true cost is higher. "
            "Give their deployments a price in tierq.toml",
            style="bold yellow",
        )


def _table(*names: str, title: str, left: int = 1) -> Table:
    columns = [Column(name, justify="left" if place < left else "right") for place, name in enumerate(names)]
    return Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)


def _split(report: Report) -> RenderableType:
    title = f"Cost by {report.by}"
    table = _table(report.by, "calls", "answers", "input tokens", "output tokens", "cost", "share", title=title)
    for line in report.lines[:_MOST]:
        sums = line.sums
        counts = (sums.calls, sums.answers, sums.input_tokens, sums.output_tokens)
        table.add_row(Text(line.name), *(f"{count:,}" for count in counts), *_cost(line, report))
    if len(report.lines) > _MOST:
        table.add_row(f"and {len(report.lines) - _MOST:,} more: see --csv")
    return table


def _uses(report: Report) -> RenderableType:
    table = _table("what for", "calls", "cost", "share", title="What the money was spent on")
    for line in report.uses:
        table.add_row(line.name, f"{line.sums.calls:,}", *_cost(line, report))
    return table


def _cost(line: Line, report: Report) -> tuple[str, str]:
    whole = report.total.cost_nusd
    unpriced = f" + {line.sums.unpriced:,} unpriced" if line.sums.unpriced else ""
    return f"{show_usd(line.sums.cost_nusd)}{unpriced}", f"{line.sums.cost_nusd / whole:.1%}" if whole else "–"


def _latencies(report: Report) -> Iterator[RenderableType]:
    if not report.latencies:
        return
    yield ""
    table = _table("model", "answers", "p50", "p95", "p99", title="How long answers took")
    for one in report.latencies:
        spans = (f"{ms:,} ms" for ms in (one.p50_ms, one.p95_ms, one.p99_ms))
        table.add_row(Text(one.model), f"{one.answers:,}", *spans)
    yield table


def _tasks(report: Report) -> Iterator[RenderableType]:
    yield f"tasks: {', '.join(f'{count:,} {state}' for state, count in report.states.most_common())}"
    if report.simple_share is not None:
        tier = report.cheapest_tier
        yield Text(f"simple: {report.simple_share:.0%} of the answered tasks ended on the cheapest tier, {tier}")
    dear = report.concentration
    if dear.cost_nusd:
        kinds = ", ".join(f"{part.tasks:,} × {part.name} on {part.tier}" for part in dear.parts[:3])
        share = dear.dearest_nusd / dear.cost_nusd
        yield Text(f"dearest: 5 % of the tasks ({dear.dearest:,}) made {share:.0%} of the cost: {kinds}")
    cache = report.cache
    if cache.hits:
        spared = show_usd(cache.spared_nusd)
        yield f"cache: {cache.hits:,} tasks answered for nothing; the stored answers had cost {spared}"


def _moves(report: Report) -> Iterator[RenderableType]:
    kinds = ("failover", "fail-overs"), ("escalation", "escalations"), ("reask", "re-asks"), ("retry", "other tries")
    yield "   ".join(f"{words}: {report.moves_of(kind):,}" for kind, words in kinds)


def _breakers(report: Report) -> Iterator[RenderableType]:
    if report.breakers is None:
        yield Text(f"breakers: not known; {report.no_breakers}", style="dim")
        return
    seen = [one for one in report.breakers if one.acted]
    if not seen:
        yield "breakers: none opened, as far as the state Redis remembers (7 days)"
        return
    yield ""
    names = ("deployment", "opened", "open for", "quota rests", "rested for", "rate lowered")
    table = _table(*names, title="Circuit breakers, as far as the state Redis remembers (7 days)")
    for one in seen:
        spans = (f"{one.openings:,} ×", f"{one.open_s:,.0f} s", f"{one.rests:,} ×", f"{one.rest_s:,.0f} s")
        table.add_row(Text(one.deployment + (" (not back yet)" if one.is_open else "")), *spans, f"{one.cuts:,} ×")
    yield table


def _quotes(report: Report) -> Iterator[RenderableType]:
    if not report.quotes:
        return
    yield ""
    table = _table("batch", "low", "expected", "high", "actual", "off by", title="Quoted, and what it came to")
    for one in report.quotes:
        sums = (show_usd(sum_) for sum_ in (one.low_nusd, one.expected_nusd, one.high_nusd, one.actual_nusd))
        table.add_row(Text(one.label or short(one.batch_id)), *sums, "–" if one.error is None else f"{one.error:+.1%}")
    yield table
