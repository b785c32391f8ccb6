"""A made-up ledger: what months of work leave behind, written straight into the tables. No model was called for it.

Prices, latencies and rates of failure are invented; the same seed makes the same ledger.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from tierq_shared.ids import new_id
from tierq_shared.money import Rates, Usage
from tierq_shared.store.bulk import bulk_insert
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, batches, specs, tasks

_AT_ONCE = 20_000
"""Attempts whose rows are written together."""
_BATCH = 1_000
_WORKER = "f" * 32
_ENDS = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Model:
    deployment: str
    provider: str
    model: str
    rates: Rates
    p50_ms: float


def _model(deployment: str, provider: str, model: str, input_: float, output: float, p50_ms: float) -> _Model:
    """A model with its prices in USD per million tokens."""
    plain = round(input_ * 1e9)
    return _Model(deployment, provider, model, Rates(plain, round(output * 1e9), plain, plain, "made up"), p50_ms)


_CHAINS = {
    "small": (
        _model("luna", "openai", "gpt-5.6-luna", 0.1, 0.4, 420),
        _model("haiku", "anthropic", "claude-haiku-5-5", 0.25, 1.25, 510),
    ),
    "medium": (
        _model("flash", "gemini", "gemini-3.8-flash", 0.5, 3, 740),
        _model("terra", "openai", "gpt-5.6-terra", 0.75, 4, 820),
    ),
    "large": (
        _model("sol", "openai", "gpt-5.6-sol", 2.5, 15, 1_600),
        _model("opus", "anthropic", "claude-opus-5-5", 5, 25, 1_900),
    ),
}
BASELINE = "sol"
TOML = "".join(
    [
        "[report]\n" + f'baseline = "{BASELINE}"\n',
        *(
            f'[tiers.{tier}]\nchain = ["{one.deployment}", "{two.deployment}"]\n'
            for tier, (one, two) in _CHAINS.items()
        ),
        *(
            f'[deployments.{one.deployment}]\nprovider = "{one.provider}"\nmodel = "{one.model}"\n'
            f"price = {{ input = {one.rates.input / 1e9:g}, output = {one.rates.output / 1e9:g} }}\n"
            for chain in _CHAINS.values()
            for one in chain
        ),
    ]
)
"""The configuration that such a ledger comes from."""

_KINDS = (
    # name, type, share, tier, input tokens, output tokens
    ("ticket-intent", "classify", 0.52, "small", 420, 8),
    ("invoice", "extract", 0.24, "small", 1_300, 160),
    ("contract", "extract", 0.05, "medium", 6_500, 420),
    ("handbook", "answer", 0.12, "medium", 2_600, 210),
    ("reply", "generate", 0.07, "large", 900, 480),
)
_NEXT = {"small": "medium", "medium": "large", "large": "large"}
_TEAMS = ("support", "finance", "legal", "marketing")


def fill(store: Store, calls: int, *, days: int = 30, seed: int = 1) -> None:
    """Writes a ledger of ``calls`` attempts over ``days`` days, with the tasks and batches they belong to."""
    maker = _Maker(random.Random(seed), calls, days)
    store.write(maker.write_specs)
    rows = maker.rows()
    while part := list(islice(rows, _AT_ONCE)):
        store.write_once(lambda connection, part=part: _write(connection, part))
    store.write(maker.write_batches)


def _write(connection: Connection, rows: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    bulk_insert(connection, tasks, [task for task, _ in rows])
    bulk_insert(connection, attempts, [attempt for _, made in rows for attempt in made])


class _Maker:
    """Makes tasks with their attempts, in the order of time."""

    def __init__(self, dice: random.Random, calls: int, days: int) -> None:
        self._dice = dice
        self._calls = calls
        self._days = days
        self._batches: list[dict[str, Any]] = []
        self._specs = {name: new_id() for name, *_ in _KINDS}
        self._last_id = new_id()

    def write_specs(self, connection: Connection) -> None:
        at = _ENDS - timedelta(days=self._days)
        bulk_insert(
            connection,
            specs,
            [
                {
                    "id": self._specs[name],
                    "type": type_,
                    "name": name,
                    "prompt_version": 1,
                    "content": "{}",
                    "created_at": at,
                }
                for name, type_, *_ in _KINDS
            ],
        )

    def write_batches(self, connection: Connection) -> None:
        bulk_insert(connection, batches, self._batches)

    def rows(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Tasks, each with its attempts, until there are as many attempts as were asked for."""
        made = number = 0
        while made < self._calls:
            task, calls = self._task(number, self._time(made))
            calls = calls[: self._calls - made]
            yield task, calls
            made, number = made + len(calls), number + 1

    def _time(self, made: int) -> datetime:
        """Days have their busy hours, and weekends little work."""
        day = made / self._calls * self._days
        wave = 0.12 * math.sin(2 * math.pi * day)
        return _ENDS - timedelta(days=self._days - min(self._days - 0.01, max(0.0, day + wave * (day % 1))))

    def _task(self, number: int, at: datetime) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if number % _BATCH == 0:
            self._add_batch(number, at)
        name, type_, _, tier, input_, output = self._dice.choices(_KINDS, [kind[2] for kind in _KINDS])[0]
        id_ = new_id()
        size = self._dice.lognormvariate(0, 0.7)
        usage = Usage(input_tokens=max(20, int(input_ * size)), output_tokens=max(1, int(output * size**0.5)))
        is_cached = self._dice.random() < 0.03
        is_shadow = not is_cached and tier == "small" and self._dice.random() < 0.01
        story = [] if is_cached else self._story("medium" if is_shadow else tier, usage)
        calls = [self._attempt(id_, ordinal, at, *call) for ordinal, call in enumerate(story, 1)]
        state = "succeeded" if is_cached or story[-1][2] == "succeeded" else "failed"
        task = {
            "id": id_,
            "batch_id": self._batches[-1]["id"],
            "spec_id": self._specs[name],
            "position": number % _BATCH,
            "type": type_,
            "state": state,
            "tier": calls[-1]["tier"] if calls else tier,
            "epoch": calls[-1]["epoch"] if calls else 0,
            "priority": 5,
            "urgency": "standard",
            "error_code": None if state == "succeeded" else "refused",
            "cost_nusd": sum(call["cost_nusd"] for call in calls),
            "created_at": at - timedelta(seconds=2),
            "finished_at": at + timedelta(seconds=4),
            "cached_from": self._last_id if is_cached else None,
            "shadow_of": self._last_id if is_shadow else None,
            "payload_hash": id_,
            "attempts": len(calls),
        }
        self._last_id = id_ if calls and not is_shadow else self._last_id
        return task, calls

    def _add_batch(self, number: int, at: datetime) -> None:
        team = _TEAMS[number // _BATCH % len(_TEAMS)]
        self._batches.append(
            {
                "id": new_id(),
                "label": f"{team} {number // _BATCH}",
                "tags": json.dumps({"team": team}),
                "state": "finished",
                "streaming": False,
                "total": _BATCH,
                "created_at": at - timedelta(seconds=5),
                "producer_seen_at": at,
                "finished_at": at + timedelta(minutes=5),
            }
        )

    def _story(self, tier: str, usage: Usage) -> list[tuple[str, _Model, str, str, Usage]]:
        """A task's calls: tier, model, outcome, lane, tokens."""
        first, second = _CHAINS[tier]
        draw = self._dice.random()
        served = (tier, first, "succeeded", "call", usage)
        if draw < 0.020:
            return [(tier, first, "overloaded", "call", Usage()), (tier, second, "succeeded", "call", usage)]
        if draw < 0.028:
            return [(tier, first, "rate_limited", "call", Usage()), served]
        if draw < 0.040:
            return [(tier, first, "invalid_output", "call", usage), (tier, first, "succeeded", "reask", usage)]
        if draw < 0.052 and tier != "large":
            spoiled = [(tier, first, "invalid_output", lane, usage) for lane in ("call", "reask")]
            return [*spoiled, *self._story(_NEXT[tier], usage)]
        if draw < 0.0535:
            return [(tier, first, "unknown", "call", usage), served]
        if draw < 0.0555:
            return [(tier, first, "refused", "call", Usage(input_tokens=usage.input_tokens))]
        return [served]

    def _attempt(
        self, task: str, ordinal: int, at: datetime, tier: str, model: _Model, outcome: str, lane: str, usage: Usage
    ) -> dict[str, Any]:
        is_known = outcome not in ("unknown", "overloaded", "rate_limited")
        latency = self._dice.lognormvariate(math.log(model.p50_ms + 0.3 * usage.output_tokens), 0.45)
        cost = model.rates.cost_nusd(usage)
        return {
            "id": new_id(),
            "task_id": task,
            "epoch": list(_CHAINS).index(tier) + 1,
            "ordinal": ordinal,
            "tier": tier,
            "deployment": model.deployment,
            "provider": model.provider,
            "model": model.model,
            "lane": lane,
            "outcome": outcome,
            "http_status": 200,
            "started_at": at + timedelta(seconds=ordinal),
            "latency_ms": round(latency),
            "input_tokens": usage.input_tokens if is_known else None,
            "cached_tokens": 0 if is_known else None,
            "cache_write_tokens": 0 if is_known else None,
            "output_tokens": usage.output_tokens if is_known else None,
            "reasoning_tokens": 0 if is_known else None,
            "cost_nusd": cost,
            "price_version": model.rates.version,
            "reserved_nusd": cost * 2,
            "worker_id": _WORKER,
        }
