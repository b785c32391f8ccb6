"""Quotes for people and for machines: before a run what is expected, after it how far that was off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tierq_console.progress_view import span
from tierq_shared.money import show_usd, usd
from tierq_shared.quoting.figures import Quote, Range, TierQuote, in_usd
from tierq_shared.store.reading import Progress


def quote_lines(quote: Quote) -> list[str]:
    """What is expected, for people."""
    lines = [f"{quote.tasks:,} tasks: {_cost(quote)} · {_time(quote.seconds)}"]
    for name, tier in quote.tiers.items():
        lines += [f"  {line}" for line in _tier_lines(name, tier)]
    return [*lines, *(f"  note: {note}" for note in quote.notes)]


def quote_json(quote: Quote) -> dict[str, Any]:
    """The same for `--json`; costs are USD as exact text."""
    tiers = {name: _tier_json(tier) for name, tier in quote.tiers.items()}
    return {**_figures_json(quote), "by_tier": tiers, "notes": list(quote.notes)}


def outcome_lines(progress: Progress) -> Iterator[str]:
    """What a batch was quoted at and, once it is over, how far that was off."""
    quote = progress.quote
    if quote is None:
        return
    if not progress.is_over:
        yield f"quoted: {_cost(quote)} · {_time(quote.seconds)}"
        return
    unpriced = f" and {progress.unpriced:,} unpriced" if progress.unpriced else ""
    actual = f"actual {show_usd(progress.cost_nusd)}{unpriced}{_off(progress.quote_error)}"
    yield f"quoted: {_cost(quote)}; {actual}"
    if progress.seconds is not None and quote.seconds is not None:
        took = f"actual {_seconds(progress.seconds)}{_off(_time_error(progress))}"
        yield f"quoted: {_time(quote.seconds)}; {took}"


def outcome_json(progress: Progress) -> dict[str, Any] | None:
    """The same for `--json`: the quote with its errors, shares of the actual figures."""
    quote = progress.quote
    if quote is None:
        return None
    return {
        **_figures_json(quote),
        "cost_error": _rounded(progress.quote_error),
        "actual_seconds": _rounded(progress.seconds),
        "time_error": _rounded(_time_error(progress)),
    }


def _time_error(progress: Progress) -> float | None:
    """Likewise of the time: a batch that was stopped early is no measure of its quote."""
    if progress.quote_error is None or progress.quote is None or progress.seconds is None:
        return None
    return progress.quote.time_error(progress.seconds)


def _tier_lines(name: str, tier: TierQuote) -> Iterator[str]:
    workers = f"{tier.workers} live worker{'' if tier.workers == 1 else 's'}"
    ahead = f", {tier.backlog:,} tasks ahead" if tier.backlog else ""
    first = f" on {tier.deployment}" if tier.deployment else ""
    yield f"{name}: {tier.tasks:,}{first}, {_cost(tier)} · {_time(tier.seconds)} ({workers}{ahead})"
    if tier.if_failed_over_nusd is not None:
        yield f"  if {tier.deployment} is down all the while: {show_usd(tier.if_failed_over_nusd)}"


def _cost(quote: Quote | TierQuote) -> str:
    unpriced = f"{quote.unpriced_tasks:,} unpriced"
    if quote.cost_nusd is None:
        return unpriced
    low, expected, high = (show_usd(one) for one in _ends(quote.cost_nusd))
    return f"{expected} ({low} to {high})" + (f" and {unpriced}" if quote.unpriced_tasks else "")


def _time(seconds: Range[float] | None) -> str:
    if seconds is None:
        return "time unknown"
    low, expected, high = (_seconds(one) for one in _ends(seconds))
    return f"{expected} ({low} to {high})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else span(seconds)


def _ends(found: Range[Any]) -> tuple[Any, Any, Any]:
    return found.low, found.expected, found.high


def _off(error: float | None) -> str:
    """An error in words: what was quoted too much, or too little, in percent of the actual figure."""
    if error is None:
        return ""
    percent = f"{abs(error) * 100:.1f}"
    return ", as quoted" if percent == "0.0" else f", quoted {percent} % too {'much' if error > 0 else 'little'}"


def _figures_json(quote: Quote | TierQuote) -> dict[str, Any]:
    cost = in_usd(quote.cost_nusd)
    return {
        "tasks": quote.tasks,
        "unpriced_tasks": quote.unpriced_tasks,
        "cost_usd": None if cost is None else _ends_json(cost, lambda one: f"{one:f}"),
        "seconds": None if quote.seconds is None else _ends_json(quote.seconds, lambda one: round(one, 3)),
    }


def _tier_json(tier: TierQuote) -> dict[str, Any]:
    return {
        **_figures_json(tier),
        "deployment": tier.deployment,
        "if_failed_over_usd": None if tier.if_failed_over_nusd is None else f"{usd(tier.if_failed_over_nusd):f}",
        "workers": tier.workers,
        "backlog": tier.backlog,
        "learned_calls": tier.learned_calls,
    }


def _ends_json(found: Range[Any], write: Any) -> dict[str, Any]:
    return {"low": write(found.low), "expected": write(found.expected), "high": write(found.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
