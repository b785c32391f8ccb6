"""One frame of `tierq top`, on any number of columns and lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_console.deployments_view import standing
from tierq_console.progress_view import span
from tierq_console.top_figures import BatchFigures, Look, TierFigures
from tierq_shared.checks import printable
from tierq_shared.ids import PREFIX_DIGITS
from tierq_shared.money import show_usd
from tierq_shared.store.actions import Action
from tierq_shared.store.backlog import TierBacklog
from tierq_workers.permits.history import BreakerSeen, Report

_WIDE = 120
"""Columns from which on models, tiers and whole details have room."""

_LEAST = (3, 4, 3, 2)
"""Rows that tiers, deployments, batches and actions get where they all want more than there is."""

_AROUND = 8
"""Lines of a frame that are no rows: the head, the heads of four tables, and the blanks between them."""

_SHORTEST_BAR, _LONGEST_BAR = 8, 40
_BESIDE_BAR = 132
"""Columns of a batch's line beside its bar."""

NO_MORE_ROWS = 10_000

Row = Sequence[str | Text]


def frame(look: Look, width: int, height: int = NO_MORE_ROWS) -> Group:
    """All of a look that has room on so many columns and lines."""
    is_wide = width >= _WIDE
    alarms = [_cut(Text(alarm, style="bold red")) for alarm in look.alarms]
    breakers = look.deployments.breakers if look.deployments else []
    wanted = (len(look.tiers), max(1, len(breakers)), max(1, len(look.batches)), max(1, len(look.actions)))
    rooms = share(height - _AROUND - len(alarms), wanted)
    parts: list[RenderableType] = [
        _head(look),
        *alarms,
        _tiers(look, rooms[0]),
        Text(),
        _deployments(look, rooms[1], is_wide=is_wide),
        Text(),
        _batches(look, rooms[2], width),
        Text(),
        _actions(look.actions, rooms[3], is_wide=is_wide),
    ]
    return Group(*parts)


def share(room: int, wanted: Sequence[int]) -> list[int]:
    """How many rows each table gets: what it wants, or its part of what there is."""
    given = [min(want, least) for want, least in zip(wanted, _LEAST, strict=True)]
    while sum(given) < room and (short := [place for place, want in enumerate(wanted) if given[place] < want]):
        given[min(short, key=given.__getitem__)] += 1
    return given


def _head(look: Look) -> Text:
    rate = sum(tier.rate for tier in look.tiers.values())
    workers = sum(tier.backlog.workers for tier in look.tiers.values())
    running = sum(tier.backlog.running for tier in look.tiers.values())
    said = _cut(Text("tierq top", style="bold"))
    figures = (_clock(look.at), _count(workers, "live worker"), f"{running:,} running", f"{_rate(rate)} tasks/s")
    return said.append(" · " + " · ".join(figures), style="not bold")


def _tiers(look: Look, room: int) -> RenderableType:
    names = ("ready", "oldest", "waiting", "running", "slots", "workers", "tasks/s")
    table = _table(_words("tier", 16), *map(_figure, names), Column(no_wrap=True))
    rows = [(name, *_tier_row(tier)) for name, tier in look.tiers.items()]
    return _filled(table, rows, room)


def _tier_row(tier: TierFigures) -> Row:
    now = tier.backlog
    oldest = "" if now.oldest_ready_s is None else span(now.oldest_ready_s)
    counts = [f"{count:,}" for count in (now.waiting, now.running, tier.slots, now.workers)]
    return (f"{now.ready:,}", oldest, *counts, _rate(tier.rate), _standing(now))


def _standing(now: TierBacklog) -> Text:
    if now.is_paused:
        return Text("paused", style="yellow")
    if now.resting_s is not None:
        return Text(f"rests {span(now.resting_s)}", style="yellow")
    return Text("no worker", style="red") if now.ready and not now.workers else Text()


def _deployments(look: Look, room: int, *, is_wide: bool) -> RenderableType:
    if look.deployments is None:
        return _cut(Text(f"deployments: {look.why_unknown}", style="yellow"))
    table = _table(
        _words("deployment", 34),
        *([_words("model", 34), _words("tiers", 24)] if is_wide else []),
        _words("state", 36),
        *map(_figure, ("calls", "failed", "limit used")),
    )
    rows = [_deployment_row(one, look.deployments, is_wide=is_wide) for one in _worst_first(look.deployments)]
    return _filled(table, rows, room) if rows else Text("no deployment is configured here")


def _worst_first(report: Report) -> list[BreakerSeen]:
    """What cannot be called stands where it is seen."""
    return sorted(report.breakers, key=lambda one: one.condition.value == "closed")


def _deployment_row(one: BreakerSeen, report: Report, *, is_wide: bool) -> Row:
    tiers = ", ".join(f"{tier} {place}" for tier, place in one.tiers.items()) or "none"
    wide = (f"{one.provider} {one.model}", tiers) if is_wide else ()
    failures = Text(f"{one.failures:,}" if one.failures else "", style="red")
    return (one.deployment, *wide, standing(one), f"{one.calls:,}", failures, _used(one, report))


def _used(one: BreakerSeen, report: Report) -> Text:
    limit = next((limit for limit in report.limits if limit.name == one.limit), None)
    if limit is None or limit.used is None:
        return Text()
    return Text(f"{limit.used:.0%}", style="yellow" if limit.used >= 0.9 or limit.rest_s else "")


def _batches(look: Look, room: int, width: int) -> RenderableType:
    if not look.batches:
        return Text("no batch is running")
    is_wide = width >= _WIDE
    bar = max(_SHORTEST_BAR, min(_LONGEST_BAR, width - _BESIDE_BAR))
    table = _table(
        Column("batch", no_wrap=True),
        _words("label", 24),
        Column(no_wrap=True),
        *map(_figure, ("done", "failed", "tasks/s", "left", "cost")),
        *([_words("", 40)] if is_wide else []),
    )
    rows = [_batch_row(one, bar, is_wide=is_wide) for one in look.batches]
    return _filled(table, rows, room, more=look.more_batches)


def _batch_row(one: BatchFigures, bar: int, *, is_wide: bool) -> Row:
    progress = one.progress
    left = "paused" if one.is_paused else "" if one.seconds_left is None else span(one.seconds_left)
    done = _done(one, is_wide=is_wide)
    failed = Text(f"{progress.failed:,}" if progress.failed else "", style="red")
    shown = (progress.batch_id[:PREFIX_DIGITS], progress.label or "", _bar(one, bar), done, failed)
    bounds = (_bounds(one),) if is_wide else ()
    return (*shown, _rate(one.rate), left, show_usd(progress.cost_nusd), *bounds)


def _done(one: BatchFigures, *, is_wide: bool) -> str:
    progress = one.progress
    if progress.total is None:
        return f"{progress.done:,} of …"
    if is_wide:
        return f"{progress.done:,} of {progress.total:,}"
    return f"{100 * progress.done // progress.total}% of {_shortened(progress.total)}"


def _bounds(one: BatchFigures) -> str:
    """What its cost is to be compared with."""
    progress = one.progress
    quoted = progress.quote.cost_nusd.expected if progress.quote and progress.quote.cost_nusd else None
    said = [f"of {show_usd(quoted)} quoted"] if quoted is not None else []
    said += [f"cap {show_usd(progress.max_cost_nusd)}"] if progress.max_cost_nusd is not None else []
    return ", ".join(said)


def _bar(one: BatchFigures, width: int) -> Text:
    progress = one.progress
    full = width * progress.done // progress.total if progress.total else 0
    style = "yellow" if one.is_paused else "green"
    return Text("█" * full, style=style).append("░" * (width - full), style="bright_black")


def _actions(found: Sequence[Action], room: int, *, is_wide: bool) -> RenderableType:
    if not found:
        return Text("nobody has changed anything yet")
    table = _table(
        Column("when", no_wrap=True),
        _words("who", 40),
        Column("what", no_wrap=True),
        _words("of", 50),
        *([_words("details", 40)] if is_wide else []),
    )
    return _filled(table, [_action_row(one, is_wide=is_wide) for one in found], room, says_more=False)


def _action_row(one: Action, *, is_wide: bool) -> Row:
    details = ", ".join(f"{name} {value}" for name, value in one.details.items())
    return (_clock(one.at), one.actor, one.action, one.target, *([details] if is_wide else []))


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _figure(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _words(name: str, most: int) -> Column:
    """A column that gives way where there is no room for all; its cells are cut, not wrapped."""
    return Column(_cut(name), max_width=most)


def _cut(words: str | Text) -> Text:
    # Labels are an app's own: their escape sequences must not reach the terminal.
    text = Text(printable(words)) if isinstance(words, str) else words
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _filled(table: Table, rows: Sequence[Row], room: int, *, more: int = 0, says_more: bool = True) -> Table:
    """A table with as many rows as there is room for; the last line says how many more there are."""
    left_out = max(0, len(rows) - room) + more
    shown = rows[: max(1, room - 1)] if left_out and says_more else rows[:room]
    for row in shown:
        table.add_row(*map(_cut, row))
    if left_out and says_more:
        table.add_row(Text(f"… {len(rows) - len(shown) + more:,} more", style="bright_black"))
    return table


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _shortened(count: int) -> str:
    """A count in a few characters, as `950`, `12k`, `1.5M`."""
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if count >= 10 * size or (count >= size and count % size == 0):
            return f"{count / size:.0f}{sign}"
        if count >= size:
            return f"{count / size:.1f}{sign}"
    return str(count)
