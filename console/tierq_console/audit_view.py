"""What `tierq audit` says: to people, as JSON, and call by call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_console.audit_notes import notes
from tierq_insight.audit import AuditReport
from tierq_insight.audit.auditing import Audited
from tierq_insight.audit.difficulty import HARD, SIGNS
from tierq_insight.audit.pricing import Band
from tierq_insight.audit.report import Line, LineKey, Spend
from tierq_insight.audit.tagging import CONFIDENCES
from tierq_insight.evidence import BUCKETS
from tierq_shared.money import show_usd, usd

COULD = "could: quality not shown — run `tierq evaluate` on labelled samples"

TAG_FIELDS = (
    "line",
    "type",
    "confidence",
    "reason",
    "labels",
    "signs",
    "input_tokens",
    "output_tokens",
    "tokens_from",
    "model",
    "cost_now_usd",
    "tier",
    "rule",
    "could_cost_low_usd",
    "could_cost_usd",
    "could_cost_high_usd",
)
"""What `--tags` writes of a call. Never its text."""
TAG_INTEGERS = ("line", "labels", "input_tokens", "output_tokens")

_COSTS = ("costs now", "could cost: low", "expected", "high")


def tag_row(one: Audited) -> dict[str, Any]:
    """One call as a row; costs are exact decimals in text, null where a price is unknown."""
    there, usage = one.cost.there, one.tokens.usage
    costs = dict.fromkeys(("low", "expected", "high")) if there is None else _band(there)
    return {
        "line": one.line,
        "type": one.tag.type,
        "confidence": one.tag.confidence,
        "reason": one.tag.reason,
        "labels": one.tag.labels or None,
        "signs": " ".join(one.signs),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "tokens_from": one.tokens.source,
        "model": one.model,
        "cost_now_usd": _exact(one.cost.now_nusd),
        "tier": one.decision.tier,
        "rule": one.decision.reason,
        "could_cost_low_usd": costs["low"],
        "could_cost_usd": costs["expected"],
        "could_cost_high_usd": costs["high"],
    }


@dataclass(frozen=True)
class Shown:
    """An audit, with what it was made of and by."""

    file: Path
    origin: str
    """Where tiers and policy are from."""
    report: AuditReport

    def parts(self) -> Iterator[RenderableType]:
        """For people."""
        report = self.report
        yield Text(self._head(), style="bold")
        yield Text(f"tiers and policy: {self.origin} ({report.policy_version}); list prices, but for your own")
        yield from map(Text, self._bad_rows())
        for title, table in self._tables():
            yield Text(f"\n{title}", style="bold")
            yield table
        yield Text(f"\n{saving_in_words(report)}", style="bold")
        yield Text(f"{COULD}\n", style="bold yellow")
        yield from [Text(f"· {one}") for one in notes(report)]

    def json(self) -> dict[str, Any]:
        """For `--json`; costs are USD as exact text, null where they are not known."""
        report = self.report
        return {
            "file": str(self.file),
            "tiers_from": self.origin,
            "policy_version": report.policy_version,
            "priced_by": report.priced_by,
            "unpriced_deployments": report.unpriced_deployments,
            "seconds": round(report.seconds, 3),
            "bad": report.bad,
            "findings": [{"line": one.line, "field": one.field, "reason": one.reason} for one in report.findings],
            "total": _spend(report.total),
            "by_tier": {tier: _spend(spend) for tier, spend in report.by_tier()},
            "by_type": [_line(key, line) for key, line in report.ordered()],
            "models": [
                {"model": model, "calls": one.calls, "cost_now_usd": _exact(one.cost_nusd), "unpriced": one.unpriced}
                for model, one in report.models.items()
            ],
            "tags": [
                {"type": one.type, "confidence": one.confidence, "reason": one.reason, "calls": calls}
                for one, calls in report.tags.most_common()
            ],
            "rules": [
                {"tier": one.tier, "reason": one.reason, "calls": calls} for one, calls in report.rules.most_common()
            ],
            "tokens_from": dict(report.sources),
            "notes": list(notes(report)),
            "caveat": COULD,
        }

    def _head(self) -> str:
        calls = calls_in_words(self.report.total.calls)
        return f"{self.file.name} · {calls}, audited in {self.report.seconds:.1f} s · no model was called"

    def _bad_rows(self) -> Iterator[str]:
        report = self.report
        if not report.bad:
            return
        of = report.bad + report.total.calls
        yield f"{report.bad:,} of {of:,} rows could not be read and are left out:"
        for one in report.findings:
            yield f"  {self.file}:{one.line}: {one}"
        if report.bad > len(report.findings):
            yield f"  … and {report.bad - len(report.findings):,} more"

    def _tables(self) -> Iterator[tuple[str, RenderableType]]:
        report = self.report
        yield "What runs today", _today(report)
        yield "What each tier could run", self._tiers()
        yield "By type and size of the input", _lines(report)
        yield "Why these types", _reasons(report)
        yield "What stays as it is, and why", _kept(report)
        yield "Signs of difficulty in what could move: evaluate these first", _signs(report)

    def _tiers(self) -> RenderableType:
        table = _table("tier", "priced by", *_right("calls", "share", *_COSTS))
        for tier, spend in self.report.by_tier():
            is_top = tier == self.report.top_tier
            model = "today's: these stay" if is_top else self.report.priced_by[tier] or "none that is priced"
            table.add_row(tier, Text(model), *_counts(spend, self.report.total), *_costs(spend))
        table.add_row("all", "", *_counts(self.report.total, self.report.total), *_costs(self.report.total))
        return table


def saving_in_words(report: AuditReport) -> str:
    """What could be saved, as a range, or why nothing can be said."""
    total = report.total
    saving = total.saving
    if saving is None:
        return "Nothing can be said of a saving: no call is priced both today and on its tier."
    now = total.compared_now_nusd
    of = f"of {show_usd(now)} for the {calls_in_words(total.compared)} that are priced on both sides"
    if saving.high <= 0:
        return f"It could not save anything {of}: today's models are as cheap."
    return (
        f"It could save {_signed(saving.low)} to {_signed(saving.high)}, {_signed(saving.expected)} expected, {of}: "
        f"{_percent(saving.low, now)} to {_percent(saving.high, now)}, {_percent(saving.expected, now)} expected."
    )


def calls_in_words(count: int) -> str:
    return f"{count:,} call{'s' if count != 1 else ''}"


def _today(report: AuditReport) -> RenderableType:
    table = _table("model", *_right("calls", "costs now"))
    for model, one in sorted(report.models.items(), key=lambda item: -item[1].calls):
        cost = _known(one.cost_nusd, one.unpriced, one.calls)
        table.add_row(Text(model or "not named: say it with --model"), f"{one.calls:,}", cost)
    return table


def _lines(report: AuditReport) -> RenderableType:
    table = _table("type", "tokens in", "tier", *_right("calls", "share", "guessed", "hard", *_COSTS))
    for key, line in report.ordered():
        calls, share = _counts(line.spend, report.total)
        doubts = (_unless_none(line.confidences["guessed"]), _unless_none(line.hard))
        table.add_row(key.type, _bucket(key), key.tier, calls, share, *doubts, *_costs(line.spend))
    return table


def _reasons(report: AuditReport) -> RenderableType:
    table = _table("type", "", "because", *_right("calls"))
    for one, calls in sorted(report.tags.items(), key=lambda item: (item[0].type, -item[1])):
        table.add_row(one.type, one.confidence, one.reason, f"{calls:,}")
    return table


def _kept(report: AuditReport) -> RenderableType:
    kept = {one.reason: calls for one, calls in report.rules.items() if one.tier == report.top_tier}
    if not kept:
        return Text("nothing")
    table = _table("because", *_right("calls"))
    for reason, calls in sorted(kept.items(), key=lambda item: -item[1]):
        table.add_row(Text(reason), f"{calls:,}")
    return table


def _signs(report: AuditReport) -> RenderableType:
    found = report.signs(report.tiers[:-1])
    if not found:
        return Text("none")
    table = _table("sign", *_right("calls"))
    for name, calls in found.most_common():
        table.add_row(SIGNS[name], f"{calls:,}")
    hard = sum(line.hard for key, line in report.lines.items() if key.tier != report.top_tier)
    table.add_row(f"{HARD} or more of these: hard", f"{hard:,}")
    return table


def _table(*columns: str | Column) -> Table:
    folding = [Column(one, overflow="fold") if isinstance(one, str) else one for one in columns]
    return Table(*folding, box=None, pad_edge=False)


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right", overflow="fold") for name in names]


def _counts(spend: Spend, total: Spend) -> tuple[str, str]:
    return f"{spend.calls:,}", f"{spend.calls / total.calls:.0%}" if spend.calls else ""


def _costs(spend: Spend) -> tuple[str, str, str, str]:
    if not spend.calls:
        return "", "", "", ""
    now = _known(spend.now_nusd, spend.now_unpriced, spend.calls)
    there = spend.there
    low, expected, high = (
        _known(cost, spend.there_unpriced, spend.calls) for cost in (there.low, there.expected, there.high)
    )
    return now, low, expected, high


def _known(nusd: int, unpriced: int, calls: int) -> str:
    """A sum, with how many calls are not in it."""
    if unpriced == calls:
        return "unpriced"
    return f"{show_usd(nusd)} + {unpriced:,} unpriced" if unpriced else show_usd(nusd)


def _unless_none(count: int) -> str:
    return f"{count:,}" if count else ""


def _bucket(key: LineKey) -> str:
    return f"over {BUCKETS[-1]:,}" if key.bucket is None else f"to {key.bucket:,}"


def _signed(nusd: int) -> str:
    return f"-{show_usd(-nusd)}" if nusd < 0 else show_usd(nusd)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _line(key: LineKey, line: Line) -> dict[str, Any]:
    return {
        "type": key.type,
        "max_input_tokens": key.bucket,
        "tier": key.tier,
        "tagged": {one: line.confidences[one] for one in CONFIDENCES},
        "hard": line.hard,
        "signs": dict(line.signs.most_common()),
        **_spend(line.spend),
    }


def _spend(spend: Spend) -> dict[str, Any]:
    is_now = spend.calls > spend.now_unpriced
    is_there = spend.calls > spend.there_unpriced
    return {
        "calls": spend.calls,
        "cost_now_usd": _exact(spend.now_nusd) if is_now else None,
        "unpriced_now": spend.now_unpriced,
        "could_cost_usd": _band(spend.there) if is_there else None,
        "unpriced_there": spend.there_unpriced,
        "compared": spend.compared,
        "could_save_usd": None if spend.saving is None else _band(spend.saving),
    }


def _band(band: Band) -> Mapping[str, str]:
    return {"low": _exact(band.low) or "", "expected": _exact(band.expected) or "", "high": _exact(band.high) or ""}


def _exact(nusd: int | None) -> str | None:
    found = usd(nusd)
    return None if found is None else f"{found:f}"
