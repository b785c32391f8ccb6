"""What `tierq status` says: the latest batches and what waits on each tier, or one batch by tier and state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from tierq_console.quote_view import outcome_json, outcome_lines
from tierq_console.summary import retry_hint
from tierq_shared.caps import BATCH, Cap
from tierq_shared.checks import printable
from tierq_shared.ids import PREFIX_DIGITS
from tierq_shared.money import show_usd, usd
from tierq_shared.outcomes import TaskState
from tierq_shared.store import controls, leases, reading
from tierq_shared.store.backlog import TierBacklog, backlog
from tierq_shared.store.budgets import Budget, read_batch_cap, read_budgets
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import NOTHING_SET, Controls
from tierq_shared.store.reading import Progress

_WIDE = 120
"""Columns from which on there is room for whole ids."""

_PIPE_WIDTH = 160

STATES = tuple(state.value for state in TaskState)


@dataclass(frozen=True)
class Report:
    """One look at the store."""

    batch: Progress | None
    """The batch that was asked for; None where all are meant."""
    batches: Sequence[Progress]
    states: Mapping[tuple[str, str], int]
    """The batch's tasks by tier and state."""
    workers: Mapping[str, int]
    backlog: Mapping[str, TierBacklog]
    """What waits and runs in the whole store; empty where one batch is meant."""
    caps: Sequence[tuple[Cap, Budget]] = ()
    """The configured caps as they stand now, or the batch's own."""
    now_set: Controls = NOTHING_SET
    """What operators have set."""

    def json(self) -> dict[str, Any]:
        """For `--json`; costs are USD as exact text."""
        if self.batch is None:
            tiers = {tier: asdict(one) for tier, one in self.backlog.items()}
            batches = [_progress_json(one) for one in self.batches]
            return {"batches": batches, "tiers": tiers, "caps": [_cap_json(*one) for one in self.caps]}
        by_tier = {tier: _by_state(self.states, tier) for tier in self._tiers()}
        caps = [_cap_json(*one) for one in self.caps]
        return {**_progress_json(self.batch), "by_tier": by_tier, "workers": dict(self.workers), "caps": caps}

    def tables(self, width: int) -> list[RenderableType]:
        """For people, on so many columns."""
        if self.batch is None:
            return [self._batches_table(width), self._backlog_table(), *([self._caps_table()] if self.caps else [])]
        batch = self.batch
        parts = (f"batch {batch.batch_id}", batch.label or "no label", self._state(batch), _done(batch), _cost(batch))
        said = _words(" · ".join(parts))
        hints = [f"{batch.failed:,} failed: {retry_hint(batch.batch_id)}"] if batch.failed else []
        return [said, *outcome_lines(batch), self._states_table(), *([self._caps_table()] if self.caps else []), *hints]

    def _state(self, batch: Progress) -> str:
        return f"{batch.state}, paused" if batch.batch_id in self.now_set.batches else batch.state

    def _caps_table(self) -> RenderableType:
        table = Table("cap", "limit", "spent", "reserved", "reached", "then", box=None, pad_edge=False)
        for cap, budget in self.caps:
            amounts = [show_usd(one) for one in (budget.limit_nusd, budget.spent_nusd, budget.reserved_nusd)]
            since = budget.reached_at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if budget.reached_at else ""
            table.add_row(
                str(cap).removeprefix("the "), *amounts, since, f"{_then(cap)}{self._waiting_for(cap, budget)}"
            )
        return table

    def _waiting_for(self, cap: Cap, budget: Budget) -> str:
        """How many tasks of the batch wait for its own cap."""
        queued = sum(count for (_, state), count in self.states.items() if state == TaskState.QUEUED)
        waits = cap.per == BATCH and cap.when_reached == "wait" and budget.reached_at is not None
        return f": {queued:,} do" if waits and queued else ""

    def _batches_table(self, width: int) -> RenderableType:
        if not self.batches:
            return "no batches yet"
        digits = 32 if width >= _WIDE else PREFIX_DIGITS
        columns = [Column(name, no_wrap=True) for name in ("state", "done", "failed", "cost", "created")]
        table = Table(Column("batch", min_width=digits), "label", *columns, box=None, pad_edge=False)
        for one in self.batches:
            created = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            failed = f"{one.failed:,}" if one.failed else ""
            done = (self._state(one), _done(one), failed, _cost(one))
            table.add_row(one.batch_id[:digits], _words(one.label or ""), *done, created)
        return table

    def _backlog_table(self) -> RenderableType:
        table = Table(
            "tier", "ready", "oldest", "waiting", "running", "live workers", "resting", box=None, pad_edge=False
        )
        for tier, one in self.backlog.items():
            oldest = "" if one.oldest_ready_s is None else str(timedelta(seconds=int(one.oldest_ready_s)))
            counts = [f"{count:,}" for count in (one.waiting, one.running, one.workers)]
            resting = "" if one.resting_s is None else f"{one.resting_s:.0f} s more"
            resting = "paused" if one.is_paused else resting
            table.add_row(tier, f"{one.ready:,}", oldest, *counts, resting)
        return table if self.backlog else "no tasks wait, and no worker is live"

    def _states_table(self) -> RenderableType:
        table = Table("tier", *STATES, "live workers", box=None, pad_edge=False)
        for tier in self._tiers():
            counts = _by_state(self.states, tier)
            table.add_row(tier, *[f"{counts.get(state, 0):,}" for state in STATES], str(self.workers.get(tier, 0)))
        return table

    def _tiers(self) -> list[str]:
        return sorted({tier for tier, _ in self.states} | set(self.workers))


def _words(text: str) -> Text:
    """Labels are an app's own: neither their escape sequences nor their brackets mean anything to the terminal."""
    return Text(printable(text))


def wide_console() -> Console:
    """As wide as the terminal; wide enough for all where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, _PIPE_WIDTH))


def read_report(store: Store, batch_id: str | None, limit: int, caps: Sequence[Cap] = ()) -> Report:
    """Looks once. ``caps`` are the configured ones."""
    now_set = controls.current(store)
    with store.reading() as connection:
        if batch_id is None:
            standing = read_budgets(connection, caps) if caps else []
            waiting = backlog(connection, now_set)
            return Report(None, reading.recent_batches(connection, limit), {}, {}, waiting, standing, now_set)
        own = read_batch_cap(connection, batch_id)
        return Report(
            batch=reading.progress(connection, batch_id),
            batches=[],
            states=reading.states_by_tier(connection, batch_id),
            workers=leases.live_workers(connection),
            backlog={},
            caps=read_budgets(connection, [own]) if own is not None else [],
            now_set=now_set,
        )


def _then(cap: Cap) -> str:
    return {"wait": "tasks wait", "downgrade": "tasks move down", "fail": "tasks fail"}[cap.when_reached]


def _cap_json(cap: Cap, budget: Budget) -> dict[str, Any]:
    return {
        "per": cap.per,
        "of": cap.of,
        "limit_usd": f"{usd(budget.limit_nusd):f}",
        "spent_usd": f"{usd(budget.spent_nusd):f}",
        "reserved_usd": f"{usd(budget.reserved_nusd):f}",
        "reached_at": budget.reached_at.isoformat() if budget.reached_at else None,
        "when_reached": cap.when_reached,
    }


def _by_state(states: Mapping[tuple[str, str], int], tier: str) -> dict[str, int]:
    return {state: count for (one, state), count in states.items() if one == tier}


def _progress_json(one: Progress) -> dict[str, Any]:
    cost = usd(one.cost_nusd)
    return {
        "batch_id": one.batch_id,
        "label": one.label,
        "tags": one.tags,
        "state": one.state,
        "total": one.total,
        "done": one.done,
        **{name: getattr(one, name) for name in ("succeeded", "failed", "cancelled", "expired")},
        "cost_usd": f"{cost:f}",
        "unpriced": one.unpriced,
        "quote": outcome_json(one),
        "max_cost_usd": None if one.max_cost_nusd is None else f"{usd(one.max_cost_nusd):f}",
        "created_at": one.created_at.isoformat(),
        "finished_at": one.finished_at.isoformat() if one.finished_at else None,
    }


def _done(one: Progress) -> str:
    return f"{one.done:,} of {one.total:,}" if one.total is not None else f"{one.done:,} of …"


def _cost(one: Progress) -> str:
    unpriced = f" and {one.unpriced:,} unpriced" if one.unpriced else ""
    return show_usd(one.cost_nusd) + unpriced
