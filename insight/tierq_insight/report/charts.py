"""The pictures of a report's page, as SVG that a page can hold: nothing is fetched, nothing runs in the browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tierq_insight.report.figures import Cell, Latency, Report
from tierq_shared.errors import MissingExtra
from tierq_shared.money import NANO

COLOURS = ("#35618f", "#d08c3a", "#6f9e79", "#a65d6b", "#8578a8", "#b9a44c", "#5aa0ab", "#808891")
"""Told apart on white and on black paper, on a dark screen, and by most who see colours otherwise."""

WIDE, NARROW = 920, 340
"""Widths in pixels: of a desk's screen or paper, and of a phone."""

_MOST_SERIES = len(COLOURS) - 1
_OTHERS = "others"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_FORMATS = {"minute": "%H:%M", "hour": "%-d %b %H:00", "day": "%-d %b", "month": "%b %Y"}
_READ = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart at two widths."""

    about: str
    """What it shows, for those who cannot see it."""
    wide: str
    narrow: str


def over_time(report: Report, key: Callable[[Cell], str], what: str, order: Sequence[str] = ()) -> Picture:
    """What was spent over time, stacked by a key; the dearest seven, and the others together."""
    names = _names(report, key, order)
    costs: dict[tuple[str, str], int] = {}
    for cell in report.cells:
        name = key(cell) if key(cell) in names else _OTHERS
        costs[cell.time, name] = costs.get((cell.time, name), 0) + cell.sums.cost_nusd
    shown = [*names, *([_OTHERS] if any(name == _OTHERS for _, name in costs) else [])]
    found = [
        {"time": _iso(time, report.unit), "name": name, "usd": cost / NANO, "place": shown.index(name)}
        for (time, name), cost in sorted(costs.items())
    ]
    return _picture(f"Cost over time, stacked by {what}", lambda width: _stacked(found, shown, report.unit, width))


def tiers_by_type(report: Report, tiers: Sequence[str]) -> Picture:
    """For each type of task the parts that each tier answered."""
    found = [
        {"type": type_, "tier": tier, "tasks": tasks, "place": tiers.index(tier)}
        for (type_, tier), tasks in sorted(report.answered_by_tier.items())
    ]
    return _picture("The part of each type's tasks that each tier answered", lambda width: _parts(found, tiers, width))


def latency(latencies: Sequence[Latency]) -> Picture:
    """p50, p95 and p99 of each model on one scale."""
    found = [
        {"model": one.model, "percentile": name, "seconds": ms / 1_000}
        for one in latencies
        for name, ms in (("p50", one.p50_ms), ("p95", one.p95_ms), ("p99", one.p99_ms))
    ]
    return _picture("Latency percentiles by model", lambda width: _dots(found, width))


def _names(report: Report, key: Callable[[Cell], str], order: Sequence[str]) -> list[str]:
    dearest = [line.name for line in report.split(key)]
    kept = dearest[:_MOST_SERIES]
    return [*(name for name in order if name in kept), *(name for name in kept if name not in order)]


def _stacked(found: Sequence[dict[str, Any]], names: Sequence[str], unit: str, width: int) -> Any:
    alt = _altair()
    few = max(2, width // 90)
    # Bars as wide as there is room for, whatever a scale of time makes of them.
    slots = _slots(found, unit, len({row["time"] for row in found}))
    size = max(1.5, min(36.0, 0.72 * (width - 60) / max(1, slots)))
    axis = alt.Axis(format=_FORMATS[unit], grid=False, **_ticks(found, few))
    # Room for half a bar at either end: else the first one covers the figures beside it.
    time = alt.X("time:T", title=None, axis=axis, scale=alt.Scale(padding=size / 2 + 2))
    return (
        alt.Chart(alt.Data(values=list(found)), width=width - 60, height=220 if width == WIDE else 190)
        .mark_bar(size=size)
        .encode(
            x=time,
            y=alt.Y("sum(usd):Q", title=None, axis=alt.Axis(format="$,.4~r", tickCount=4)),
            color=alt.Color("name:N", sort=list(names), scale=_scale(names), legend=_legend(width, names)),
            order=alt.Order("place:Q"),
        )
    )


def _iso(time: str, unit: str) -> str:
    return datetime.strptime(time, _READ[unit]).isoformat()


def _slots(found: Sequence[dict[str, Any]], unit: str, steps: int) -> int:
    """How many steps of time lie between the first and the last, gaps among them."""
    seconds = {"minute": 60, "hour": 3_600, "day": 86_400, "month": 30 * 86_400}[unit]
    times = [datetime.fromisoformat(row["time"]) for row in found]
    return max(steps, round((max(times) - min(times)).total_seconds() / seconds) + 1) if times else 1


def _ticks(found: Sequence[dict[str, Any]], few: int) -> dict[str, Any]:
    """A tick a bar where there are few bars: ticks between them would only say the same minute or day again."""
    times = [datetime.fromisoformat(one) for one in sorted({row["time"] for row in found})]
    if len(times) > few:
        return {"tickCount": few}
    return {
        "values": [
            {"year": at.year, "month": at.month, "date": at.day, "hours": at.hour, "minutes": at.minute} for at in times
        ]
    }


def _parts(found: Sequence[dict[str, Any]], tiers: Sequence[str], width: int) -> Any:
    alt = _altair()
    return (
        alt.Chart(alt.Data(values=list(found)), width=width - 90, height=alt.Step(34))
        .mark_bar(size=20)
        .encode(
            x=alt.X(
                "tasks:Q", stack="normalize", title=None, axis=alt.Axis(format="%", tickCount=max(2, width // 200))
            ),
            y=alt.Y("type:N", title=None, axis=_name_axis([row["type"] for row in found], width)),
            color=alt.Color("tier:N", sort=list(tiers), scale=_scale(tiers), legend=_legend(width, tiers)),
            order=alt.Order("place:Q"),
        )
    )


def _dots(found: Sequence[dict[str, Any]], width: int) -> Any:
    alt = _altair()
    models = list(dict.fromkeys(row["model"] for row in found))
    y = alt.Y("model:N", sort=models, title=None, axis=_name_axis(models, width))
    seconds = alt.X(
        "seconds:Q",
        title=None,
        axis=alt.Axis(format="~g", labelExpr="datum.label + ' s'", tickCount=max(2, width // 130)),
    )
    base = alt.Chart(alt.Data(values=list(found)), width=width - 160, height=alt.Step(30)).encode(y=y)
    line = base.mark_rule(strokeWidth=3, color="#8886").encode(x="min(seconds):Q", x2="max(seconds):Q")
    names = ["p50", "p95", "p99"]
    colour = alt.Color("percentile:N", sort=names, scale=_scale(names), legend=_legend(width, names))
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(x=seconds, color=colour)
    return line + dots


def _name_axis(names: Sequence[str], width: int) -> Any:
    """Room for names in whatever font the reader has: the picture is drawn with another one's widths."""
    room = min(width // 3, 16 + round(7.6 * max(map(len, names))))
    return _altair().Axis(ticks=False, labelLimit=room, minExtent=room)


def _scale(names: Sequence[str]) -> Any:
    return _altair().Scale(domain=list(names), range=list(COLOURS[: len(names)]))


def _legend(width: int, names: Sequence[str]) -> Any:
    fit = width // (7 * max(map(len, names)) + 34)
    columns = max(1, min(len(names), fit))
    return _altair().Legend(title=None, orient="top", columns=columns, symbolType="square", labelLimit=width // 3)


def _picture(about: str, draw: Callable[[int], Any]) -> Picture:
    return Picture(about, _svg(draw(WIDE)), _svg(draw(NARROW)))


def _svg(chart: Any) -> str:
    """A chart in the page's own colour of text, on its own ground."""
    import vl_convert

    dressed = (
        chart.configure(background="transparent", font=_FONT, aria=False, padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            domain=False,
            tickColor="#8886",
            gridColor="#8883",
            labelColor="currentColor",
            labelFontSize=12,
            labelPadding=6,
        )
        .configure_legend(labelColor="currentColor", labelFontSize=12, symbolStrokeWidth=0)
    )
    return str(vl_convert.vegalite_to_svg(dressed.to_json()))


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401  # what turns its charts into pictures; said now, not half-way
    except ModuleNotFoundError:
        raise MissingExtra("the page's charts need altair and vl-convert: pip install 'tierq[insight]'") from None
    return altair
