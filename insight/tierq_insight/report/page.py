"""A report as one HTML page: style and pictures are in it, nothing is fetched, and no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from tierq_insight.report import charts
from tierq_insight.report.charts import Picture
from tierq_insight.report.figures import Line, Report
from tierq_shared.errors import MissingExtra
from tierq_shared.ids import short
from tierq_shared.money import NANO

USES_IN_WORDS = {
    "answers": "Calls that answered",
    "rejected answers": "Answers that did not fit, and were asked for again or sent up a tier",
    "unknown outcome": "Calls that broke off: charged at their worst case, since nobody can know",
    "throttled": "Calls that the provider throttled",
    "failed calls": "Calls that failed",
    "measuring quality": "Measuring quality: shadows and evaluations",
    "under way": "Calls under way, not charged yet",
}
MOVES_IN_WORDS = {
    "failover": "Fail-over",
    "escalation": "Escalation",
    "reask": "Re-ask",
    "retry": "Other try",
}


def page(report: Report, *, title: str = "What it cost", tiers: Sequence[str] = ()) -> str:
    """The page. ``tiers``: the configured ones, cheapest first.

    Raises:
        MissingExtra: what draws and fills it is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError:
        raise MissingExtra("the page needs jinja2 and altair: pip install 'tierq[insight]'") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tierq_insight.report", "."),
        autoescape=True,  # names, labels and tags are strangers' text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    usd = partial(money, digits=_digits(report.total.cost_nusd))
    environment.filters |= {"usd": usd, "count": _count, "percent": percent, "time": _time}
    template = environment.get_template("page.html.j2")
    return template.render(
        report=report,
        title=title,
        total=report.total,
        pictures=_pictures(report, _all_tiers(report, tiers)),
        tiers=_all_tiers(report, tiers),
        uses_in_words=USES_IN_WORDS,
        moves_in_words=MOVES_IN_WORDS,
        times=sorted(report.split(lambda cell: cell.time), key=lambda line: line.name),
        splits=_splits(report),
        short=short,
        share_of=_share_of,
    )


def money(nusd: int | None, digits: int = 2) -> str:
    """A cost with so many digits; what is less than the last of them is said to be so."""
    if nusd is None:
        return "unpriced"
    least = Decimal(1).scaleb(-digits)
    dollars = Decimal(abs(nusd)) / NANO
    sign = "−" if nusd < 0 else ""
    return f"<${least}" if 0 < dollars < least else f"{sign}${dollars:,.{digits}f}"


def _digits(nusd: int) -> int:
    """As many as a sum's parts need, the same for all of a page, so that its columns can be read down."""
    return 2 if nusd >= 10 * NANO else 4 if nusd >= NANO // 10 else 7


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %".replace("-", "−")


def _splits(report: Report) -> list[tuple[str, str, list[Line]]]:
    found = [
        ("tier", "Tier", report.split(lambda cell: cell.tier)),
        ("model", "Model", report.split(lambda cell: cell.model)),
        ("type", "Type of task", report.split(lambda cell: cell.type)),
    ]
    if report.by not in ("tier", "model", "type"):
        found.append(("by", report.by.capitalize(), list(report.lines)))
    return found


def _pictures(report: Report, tiers: Sequence[str]) -> dict[str, Picture]:
    found = {}
    if report.cells:
        for what, key in (("tier", _tier), ("model", _model), ("type", _type)):
            found[what] = charts.over_time(report, key, what, tiers if what == "tier" else ())
    if report.answered_by_tier:
        found["simple"] = charts.tiers_by_type(report, tiers)
    if report.latencies:
        found["latency"] = charts.latency(report.latencies)
    return found


def _all_tiers(report: Report, tiers: Sequence[str]) -> list[str]:
    """The configured ones, and those that the ledger alone still knows."""
    return [*tiers, *sorted({cell.tier for cell in report.cells} - set(tiers))]


def _tier(cell: Any) -> str:
    return str(cell.tier)


def _model(cell: Any) -> str:
    return str(cell.model)


def _type(cell: Any) -> str:
    return str(cell.type)


def _share_of(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _count(number: int) -> str:
    return f"{number:,}"


def _time(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
