"""Makes a report from the store, in one transaction, so that all its figures are of the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

from tierq_insight.quotes import QuotedBatch, quoted_batches
from tierq_insight.report import queries
from tierq_insight.report.breakers import BreakerEvent, breaker_times
from tierq_insight.report.figures import Baseline, Cell, Line, Quoted, Report, dearest_first, split
from tierq_insight.report.grouping import tune
from tierq_insight.report.saving import saving
from tierq_insight.report.scope import Scope
from tierq_shared.quoting.figures import Range
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store

DIMENSIONS: Mapping[str, Callable[[Cell], str]] = {
    "tier": lambda cell: cell.tier,
    "model": lambda cell: cell.model,
    "type": lambda cell: cell.type,
    "day": lambda cell: cell.time[: queries.UNITS["day"]],
    "deployment": lambda cell: cell.deployment,
}
"""What a report can be split by, beside tags."""

TAG = "tag:"
_MOST_QUOTES = 20
_LONGEST = (("minute", timedelta(hours=2)), ("hour", timedelta(days=3)), ("day", timedelta(days=120)))
"""Up to what length a span is shown in minutes, hours and days."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a report needs that the ledger does not hold."""

    cheapest_tier: str | None = None
    baseline: Baseline | None = None
    no_baseline: str = "no baseline is configured"
    """Why there is none."""
    breakers: Mapping[str, Iterable[BreakerEvent]] | None = None
    """What happened to each deployment's breaker."""
    no_breakers: str = "no state Redis is configured, so each worker has breakers of its own"
    """Why that is not known."""


def make_report(store: Store, scope: Scope, known: Known, by: str = "model") -> Report:
    """Reads the report of a scope. ``by``: one of `DIMENSIONS`, or `tag:NAME`."""
    quotes = _quotes(store, scope)
    with store.reading() as connection:
        tune(connection)
        return _report(connection, scope, known, by, quotes)


def _quotes(store: Store, scope: Scope) -> list[Quoted]:
    """The batches that were quoted before they ran, and whose price was known then."""
    found = quoted_batches(store, batch_id=scope.batch_id, since=scope.since, before=scope.until, limit=_MOST_QUOTES)
    return [_quoted(one, one.quote.cost_nusd) for one in found if one.quote.cost_nusd is not None]


def _quoted(one: QuotedBatch, cost: Range[int]) -> Quoted:
    actual = None if one.cost_error is None else one.cost_nusd
    return Quoted(one.batch_id, one.label, cost.low, cost.expected, cost.high, actual)


def _report(connection: Connection, scope: Scope, known: Known, by: str, quotes: Sequence[Quoted]) -> Report:
    first, last = queries.span(connection, scope)
    at: datetime = connection.execute(select(now())).scalar_one()
    unit = "day" if by == "day" else _unit(first, last)
    cells = queries.cells(connection, scope, unit)
    groups = queries.task_groups(connection, scope)
    breakers = None if known.breakers is None else breaker_times(known.breakers, scope, at)
    return Report(
        scope=scope,
        made_at=at.astimezone(UTC),
        first=first,
        last=last,
        unit=unit,
        cheapest_tier=known.cheapest_tier,
        cells=cells,
        tasks=groups,
        latencies=queries.latencies(connection, scope),
        moves=queries.moves(connection, scope),
        concentration=queries.concentration(connection, scope, groups),
        cache=queries.cache_use(connection, scope, groups),
        saving=saving(known.baseline, queries.bags(connection, scope)) if known.baseline else None,
        no_saving="" if known.baseline else known.no_baseline,
        judged=queries.judged(connection),
        breakers=breakers,
        no_breakers="" if breakers is not None else known.no_breakers,
        quotes=quotes,
        by=by,
        lines=_lines(connection, scope, cells, by),
    )


def _lines(connection: Connection, scope: Scope, cells: Sequence[Cell], by: str) -> list[Line]:
    if by.startswith(TAG):
        return dearest_first(queries.by_tag(connection, scope, by.removeprefix(TAG)))
    lines = split(cells, DIMENSIONS[by])
    return sorted(lines, key=lambda line: line.name) if by == "day" else lines


def _unit(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "day"
    return next((unit for unit, longest in _LONGEST if last - first <= longest), "month")
