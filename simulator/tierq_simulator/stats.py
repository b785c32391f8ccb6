"""What happened so far, in counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from tierq_simulator.wire.base import Usage


class Stats:
    """Counts of requests, replies, outcomes and tokens."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Start counting anew; what is in flight stays in flight."""
        self.requests = 0
        self.replies = 0
        self.abandoned = 0
        self.max_in_flight = self.in_flight
        self._outcomes: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._models: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._providers: Counter[str] = Counter()

    def begin(self, provider: str) -> None:
        """A request for an answer came in."""
        self.requests += 1
        self._providers[provider] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, model: str, outcome: str, *, delivered: bool) -> None:
        """Its reply has gone out, or could not."""
        self.in_flight -= 1
        self.replies += delivered
        self.abandoned += not delivered
        self._outcomes[outcome] += 1
        self._models[model]["requests"] += 1
        self._models[model][outcome] += 1

    def count(self, model: str, usage: Usage) -> None:
        """The tokens of one answer."""
        tokens = self._tokens
        tokens["input"] += usage.input
        tokens["cached"] += usage.cached
        tokens["cache_write"] += usage.cache_write
        tokens["output"] += usage.output
        tokens["reasoning"] += usage.reasoning
        self._models[model]["input_tokens"] += usage.input
        self._models[model]["output_tokens"] += usage.output

    def as_json(self) -> dict[str, Any]:
        """The counts, for GET /_sim/stats."""
        return {
            "requests": self.requests,
            "replies": self.replies,
            "abandoned": self.abandoned,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "by_provider": dict(self._providers),
            "by_model": {model: dict(counts) for model, counts in self._models.items()},
            "by_outcome": dict(self._outcomes),
            "tokens": {name: self._tokens[name] for name in ("input", "cached", "cache_write", "output", "reasoning")},
        }
