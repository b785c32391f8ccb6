"""What a run came to: for people in a few lines, for machines as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tierq_console.quote_view import outcome_json, outcome_lines
from tierq_insight.spending import ModelSpending
from tierq_shared.ids import prefix
from tierq_shared.money import Usage, show_usd, usd
from tierq_shared.outcomes import Outcome
from tierq_shared.store.reading import Progress

_EXAMPLE_CHARS = 200


@dataclass(slots=True)
class Failures:
    """Causes of failure, counted while outcomes are written, each with its first case."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome[Any]) -> None:
        if outcome.error is None:
            return
        code = outcome.error.code
        self.counts[code] += 1
        self.examples.setdefault(code, f"{outcome.key}: {shortened(outcome.error.message)}")


@dataclass(frozen=True)
class Summary:
    """All that is told of a batch when a command is done with it."""

    progress: Progress
    models: Sequence[ModelSpending]
    failures: Failures
    set_aside: int
    bad_path: Path | None
    seconds: float
    output: Path

    @property
    def all_succeeded(self) -> bool:
        return self.progress.succeeded == self.progress.total

    def json(self) -> dict[str, Any]:
        """For `--json`; costs are USD as exact text."""
        progress, usage = self.progress, _total_usage(self.models)
        return {
            "batch_id": progress.batch_id,
            "state": progress.state,
            "total": progress.total,
            **_ended(progress),
            "by_tier": {name: {**_ended(tier), "cost_usd": _usd(tier.cost_nusd)} for name, tier in _tiers(progress)},
            "by_model": {one.model: _model_json(one) for one in self.models},
            "tokens": _usage_json(usage),
            "cost_usd": _usd(progress.cost_nusd),
            "unpriced": progress.unpriced,
            "quote": outcome_json(progress),
            "failures": dict(self.failures.counts.most_common()),
            "set_aside": self.set_aside,
            "set_aside_in": str(self.bad_path) if self.set_aside else None,
            "seconds": round(self.seconds, 3),
            "output": str(self.output),
        }

    def lines(self) -> list[str]:
        """For people."""
        progress = self.progress
        done = f"{progress.succeeded:,} of {progress.total or 0:,} succeeded in {self.seconds:.1f} s"
        lines = [f"{done}, {_cost(progress.cost_nusd, progress.unpriced)} · batch {progress.batch_id}"]
        lines += [f"  {line}" for line in outcome_lines(progress)]
        lines += [f"  {name}: {_counts_in_words(tier)}, {show_usd(tier.cost_nusd)}" for name, tier in _tiers(progress)]
        lines += [f"  {model_line(one)}" for one in self.models]
        lines += [
            f"  {count:,} × {code}, such as {self.failures.examples[code]}"
            for code, count in self.failures.counts.most_common()
        ]
        if progress.failed:
            lines.append(f"  {retry_hint(progress.batch_id)}")
        if self.set_aside:
            lines.append(f"  {self.set_aside:,} bad rows were set aside in {self.bad_path}")
        return [*lines, f"written to {self.output}"] if str(self.output) != "-" else lines


def retry_hint(batch_id: str) -> str:
    """What can be done about a batch's failed tasks."""
    batch = prefix(batch_id)
    return f"`tierq failures {batch}` shows why, `tierq retry {batch}` sends them again"


def model_line(one: ModelSpending) -> str:
    calls = f"{one.attempts:,} call{'s' if one.attempts != 1 else ''}"
    tokens = f"{one.usage.input_tokens:,} tokens in, {one.usage.output_tokens:,} out"
    return f"{one.model}: {calls}, {tokens}, {_cost(one.cost_nusd, one.unpriced)}"


def _ended(counts: Any) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("succeeded", "failed", "cancelled", "expired")}


def _counts_in_words(counts: Any) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in _ended(counts).items() if count or name == "succeeded")


def _tiers(progress: Progress) -> list[tuple[str, Any]]:
    return list(progress.tiers.items())


def _cost(nusd: int, unpriced: int) -> str:
    if not unpriced:
        return show_usd(nusd)
    return f"{show_usd(nusd)} and {unpriced:,} unpriced" if nusd else "unpriced"


def _usd(nusd: int) -> str:
    return f"{usd(nusd) or Decimal(0):f}"


def _total_usage(models: Sequence[ModelSpending]) -> Usage:
    return sum((one.usage for one in models), Usage())


def _usage_json(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _model_json(one: ModelSpending) -> dict[str, Any]:
    return {
        "attempts": one.attempts,
        "succeeded": one.succeeded,
        "tokens": _usage_json(one.usage),
        "cost_usd": _usd(one.cost_nusd),
        "unpriced": one.unpriced,
    }


def shortened(message: str) -> str:
    """A message on one line of bounded length, with nothing in it that a terminal would obey."""
    text = " ".join("".join(one if one.isprintable() else " " for one in message).split())
    return text if len(text) <= _EXAMPLE_CHARS else text[:_EXAMPLE_CHARS] + "…"
