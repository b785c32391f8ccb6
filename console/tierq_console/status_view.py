"""What `tierq status` says: the latest batches or one batch, and the live workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table

from tierq_shared.money import show_usd, usd
from tierq_shared.outcomes import TaskState
from tierq_shared.store import leases, reading
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress

_WIDE = 120
"""Columns from which on there is room for whole ids."""

_DIGITS = 12
"""The digits of an id that are its time in milliseconds: enough to name a batch by."""

STATES = tuple(state.value for state in TaskState)


@dataclass(frozen=True)
class Report:
    """One look at the store."""

    batch: Progress | None
    """The batch that was asked for; None where all are meant."""
    batches: Sequence[Progress]
    states: Mapping[tuple[str, str], int]
    """Tasks by tier and state: of the batch, or of all that have not ended."""
    workers: Mapping[str, int]

    def json(self) -> dict[str, Any]:
        """For `--json`; costs are USD as exact text."""
        by_tier = {tier: _by_state(self.states, tier) for tier in self._tiers()}
        if self.batch is None:
            return {
                "batches": [_progress_json(one) for one in self.batches],
                "waiting": by_tier,
                "workers": dict(self.workers),
            }
        return {**_progress_json(self.batch), "by_tier": by_tier, "workers": dict(self.workers)}

    def tables(self, width: int) -> list[RenderableType]:
        """For people, on so many columns."""
        if self.batch is None:
            return [self._batches_table(width), self._tiers_table(("queued", "running"))]
        batch = self.batch
        said = f"batch {batch.batch_id} · {batch.label or 'no label'} · {batch.state} · {_done(batch)} · {_cost(batch)}"
        return [said, self._tiers_table(STATES)]

    def _batches_table(self, width: int) -> RenderableType:
        if not self.batches:
            return "no batches yet"
        digits = 32 if width >= _WIDE else _DIGITS
        columns = [Column(name, no_wrap=True) for name in ("state", "done", "failed", "cost", "created")]
        table = Table(Column("batch", min_width=digits), "label", *columns, box=None, pad_edge=False)
        for one in self.batches:
            created = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            failed = f"{one.failed:,}" if one.failed else ""
            table.add_row(one.batch_id[:digits], one.label or "", one.state, _done(one), failed, _cost(one), created)
        return table

    def _tiers_table(self, states: Sequence[str]) -> RenderableType:
        table = Table("tier", *states, "live workers", box=None, pad_edge=False)
        for tier in self._tiers():
            counts = _by_state(self.states, tier)
            table.add_row(tier, *[f"{counts.get(state, 0):,}" for state in states], str(self.workers.get(tier, 0)))
        return table if self._tiers() else "no tasks wait, and no worker is live"

    def _tiers(self) -> list[str]:
        of_batch = list(self.batch.tiers) if self.batch else []
        return list(dict.fromkeys([*of_batch, *sorted({tier for tier, _ in self.states} | set(self.workers))]))


def read_report(store: Store, batch_id: str | None, limit: int) -> Report:
    """Looks once."""
    with store.reading() as connection:
        return Report(
            batch=reading.progress(connection, batch_id) if batch_id else None,
            batches=[] if batch_id else reading.recent_batches(connection, limit),
            states=reading.states_by_tier(connection, batch_id),
            workers=leases.live_workers(connection),
        )


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
        "created_at": one.created_at.isoformat(),
        "finished_at": one.finished_at.isoformat() if one.finished_at else None,
    }


def _done(one: Progress) -> str:
    return f"{one.done:,} of {one.total:,}" if one.total is not None else f"{one.done:,} of …"


def _cost(one: Progress) -> str:
    unpriced = f" and {one.unpriced:,} unpriced" if one.unpriced else ""
    return show_usd(one.cost_nusd) + unpriced
