"""What `tierq cascade` says: the rules as they stand, and calibrated ones to paste, with their evidence in comments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from rich.console import RenderableType
from rich.table import Column, Table

from tierq_insight.calibration import Calibration, Combination, Verdict
from tierq_insight.cascade_evidence import Paired
from tierq_shared.cascade import CascadeRule
from tierq_shared.ids import short
from tierq_shared.intervals import Interval
from tierq_shared.money import show_usd, usd
from tierq_shared.settings import Settings


def rules_table(settings: Settings) -> RenderableType:
    """For people: every rule, and where its threshold is from."""
    names = ("#", "type", "name", "starts on", "judged by", "threshold")
    table = Table(*(Column(name, overflow="fold") for name in names), box=None, pad_edge=False)
    for number, rule in enumerate(settings.cascade, 1):
        starts = ", ".join(rule.starts(settings.tier_names))
        table.add_row(str(number), rule.type, rule.name or "any", starts, _signal(rule), threshold_in_words(rule))
    return table


def rules_json(settings: Settings) -> list[dict[str, Any]]:
    return [
        {**rule.model_dump(mode="json"), "tiers": rule.starts(settings.tier_names), "origin": _origin(rule)}
        for rule in settings.cascade
    ]


def threshold_in_words(rule: CascadeRule) -> str:
    if rule.threshold is None:
        return "none: only measured, every answer is kept"
    told = f"calibrated from {short(rule.calibrated)}" if rule.calibrated else "set by hand, not calibrated"
    return f"{rule.threshold:g} ({told})"


def _origin(rule: CascadeRule) -> str:
    return "none" if rule.threshold is None else "calibrated" if rule.calibrated else "by hand"


def _signal(rule: CascadeRule) -> str:
    if rule.signal == "agreement":
        return f"agreement of {rule.calls} samples"
    return f"verifier {rule.verifier}" if rule.verifier else "log-probabilities"


def calibrated_lines(paired: Paired, found: Calibration, evaluation_id: str) -> Iterator[str]:
    """A `[[cascade]]` table to paste, or comments that say why there is none."""
    yield f"# {_what(paired)}"
    if paired.deployment is None or paired.higher is None:
        yield f"# not calibrated: {_missing(paired)}"
        return
    yield f"# {found.pairs:,} pairs of evaluation {short(evaluation_id)}: {paired.deployment} and {paired.higher}"
    yield from (f"# {line}" for line in _evidence(paired, found))
    if found.verdict is not Verdict.FOUND or found.chosen is None:
        yield f"# {_WORDS[found.verdict]}: {found.why}"
        return
    yield f"# {found.why}; tried on these same pairs from the strictest threshold down, up to the first that failed"
    yield from _toml(paired, found.chosen, evaluation_id)


_WORDS = {
    Verdict.TOO_LITTLE_DATA: "too little data: stay as you are",
    Verdict.NOT_GOOD_ENOUGH: "no threshold is good enough: leave the cascade out",
    Verdict.SAVES_NOTHING: "it would save nothing: leave the cascade out",
}


def calibrated_json(paired: Paired, found: Calibration, evaluation_id: str) -> dict[str, Any]:
    """For `--json`; costs are USD as exact text."""
    return {
        "type": paired.rule.type,
        "name": paired.rule.name,
        "signal": paired.rule.signal,
        "tier": paired.tier,
        "deployment": paired.deployment,
        "higher_tier": paired.higher_tier,
        "higher_deployment": paired.higher,
        "evaluation": evaluation_id,
        "pairs": found.pairs,
        "verdict": found.verdict,
        "why": found.why if paired.deployment and paired.higher else _missing(paired),
        "threshold": found.chosen.threshold if found.chosen else None,
        "kept": _interval(found.chosen.kept if found.chosen else None),
        "quality": _interval(found.chosen.quality if found.chosen else None),
        "difference": _interval(found.chosen.difference if found.chosen else None),
        "cheap_quality": _interval(found.cheap),
        "higher_quality": _interval(found.higher),
        "cost_usd_per_1000": _usd(found.chosen.cost_nusd_per_1000 if found.chosen else None),
        "higher_cost_usd_per_1000": _usd(found.higher_nusd_per_1000),
    }


def _interval(one: Interval | None) -> dict[str, float] | None:
    return {"mean": one.mean, "lower": one.lower, "upper": one.upper} if one else None


def _usd(nusd: int | None) -> str | None:
    dollars = usd(nusd)
    return None if dollars is None else f"{dollars:f}"


def _what(paired: Paired) -> str:
    kind = f"{paired.rule.type} {paired.rule.name!r}" if paired.rule.name else f"every {paired.rule.type}"
    return f"{kind}: from tier {paired.tier} up to {paired.higher_tier}"


def _missing(paired: Paired) -> str:
    tiers = [
        tier for tier, name in ((paired.tier, paired.deployment), (paired.higher_tier, paired.higher)) if name is None
    ]
    return f"the evaluation has no answers of tier {' and '.join(tiers)} to such tasks: evaluate a deployment of each"


def _evidence(paired: Paired, found: Calibration) -> Iterator[str]:
    if found.cheap and found.higher:
        yield (
            f"alone: {paired.deployment} {_quality(found.cheap)}, {_cost(found.cheap_nusd_per_1000)}; "
            f"{paired.higher} {_quality(found.higher)}, {_cost(found.higher_nusd_per_1000)}"
        )
    if found.chosen:
        yield from _together(found, found.chosen)
    if paired.unmeasured:
        yield f"{paired.unmeasured:,} answers of {paired.deployment} have no confidence, and would all go up"


def _together(found: Calibration, chosen: Combination) -> Iterator[str]:
    yield (
        f"together: {_quality(chosen.quality)}, {_points(chosen.difference.mean)} points to the higher tier alone "
        f"(at least {_points(chosen.difference.lower)})"
    )
    kept, cost = chosen.kept, _cost(chosen.cost_nusd_per_1000)
    yield f"{kept.mean:.1%} kept ({kept.lower:.1%} to {kept.upper:.1%}); {cost} with every call charged{_saved(found)}"


def _saved(found: Calibration) -> str:
    together = found.chosen.cost_nusd_per_1000 if found.chosen else None
    alone = found.higher_nusd_per_1000
    if together is None or not alone:
        return "; the saving is unknown, since a price is"
    change = 1 - together / alone
    return f", {change:.1%} less than the higher tier alone" if change >= 0 else f", {-change:.1%} more than it alone"


def _quality(one: Interval) -> str:
    return f"quality {one.mean:.3f} ({one.lower:.3f} to {one.upper:.3f})"


def _points(share: float) -> str:
    """A difference of shares in percentage points; no `-0.00`."""
    return f"{round(share * 100, 2) + 0.0:+.2f}"


def _cost(nusd_per_1000: int | None) -> str:
    return f"{show_usd(nusd_per_1000)} per 1,000"


def _toml(paired: Paired, chosen: Combination, evaluation_id: str) -> Iterator[str]:
    rule = paired.rule
    yield "[[cascade]]"
    given: Sequence[tuple[str, object]] = (
        ("type", rule.type),
        ("name", rule.name),
        ("signal", rule.signal),
        ("samples", rule.samples),
        ("verifier", rule.verifier),
        ("tiers", [paired.tier]),
        ("threshold", chosen.threshold),
        ("calibrated", evaluation_id),
    )
    # A JSON text, number or list of texts is the same in TOML.
    yield from (f"{name} = {orjson.dumps(value).decode()}" for name, value in given if value is not None)
