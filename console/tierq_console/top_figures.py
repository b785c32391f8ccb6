"""What `tierq top` shows, as figures: tiers, deployments, batches and the latest actions, and how fast they move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from sqlalchemy import Connection, func, select

from tierq_console.progress_view import Rate
from tierq_shared.caps import Cap
from tierq_shared.money import usd
from tierq_shared.settings import Settings
from tierq_shared.store import actions, controls, reading, schema
from tierq_shared.store.actions import Action
from tierq_shared.store.backlog import TierBacklog, backlog
from tierq_shared.store.budgets import Budget, read_budgets
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import Controls
from tierq_shared.store.reading import Progress
from tierq_shared.store.tables import batches, is_word
from tierq_workers.permits.history import History, Report

MOST_BATCHES = 100
"""Running batches that are looked at, the newest; there is no room for more."""

_MOST_NEW = 500
"""Batches since the last look that are looked at for the rates, though they may have ended."""

_ACTIONS = 20


@dataclass(frozen=True)
class TierFigures:
    """One tier, now."""

    backlog: TierBacklog
    slots: int
    """Calls that its live workers may have under way, by this configuration."""
    rate: float
    """Tasks that end a second, over the last seconds."""


@dataclass(frozen=True)
class BatchFigures:
    """One batch that is not over."""

    progress: Progress
    rate: float
    is_paused: bool = False

    @property
    def seconds_left(self) -> float | None:
        """At its rate; None where that is not known."""
        total = self.progress.total
        return (total - self.progress.done) / self.rate if total is not None and self.rate else None


@dataclass(frozen=True)
class Look:
    """One look at a whole installation."""

    at: datetime
    tiers: Mapping[str, TierFigures]
    deployments: Report | None
    """None where no state Redis tells of them; ``why_unknown`` says why."""
    why_unknown: str
    batches: Sequence[BatchFigures]
    more_batches: int
    """Running ones that were left out."""
    caps: Sequence[tuple[Cap, Budget]]
    actions: Sequence[Action]

    @property
    def alarms(self) -> list[str]:
        """What keeps work from being done."""
        idle = [name for name, one in self.tiers.items() if one.backlog.ready and not one.backlog.workers]
        said = [f"{name}: tasks are ready ({self.tiers[name].backlog.ready:,}), and no worker is live" for name in idle]
        return said + [f"{cap} is reached" for cap, budget in self.caps if budget.reached_at is not None]

    def json(self) -> dict[str, Any]:
        """For `--json`; costs are USD as exact text, spans seconds, times UTC."""
        report = self.deployments
        return {
            "at": self.at.isoformat(),
            "tiers": {
                name: {**asdict(one.backlog), "slots": one.slots, "tasks_per_s": round(one.rate, 3)}
                for name, one in self.tiers.items()
            },
            "deployments": [asdict(one) for one in report.breakers] if report else None,
            "limits": [asdict(one) for one in report.limits] if report else None,
            "batches": [_batch_json(one) for one in self.batches],
            "more_batches": self.more_batches,
            "alarms": self.alarms,
            "actions": [{**asdict(one), "at": one.at.isoformat()} for one in self.actions],
        }


class Watcher:
    """Looks again and again, and so knows how fast tasks end."""

    def __init__(self, settings: Settings, store: Store, history: History | None, why_unknown: str) -> None:
        self._settings = settings
        self._store = store
        self._history = history
        self._why_unknown = why_unknown
        self._caps = [rule.cap for rule in settings.caps]
        self._since: str | None = None
        """The newest batch of the last look."""
        self._done: dict[str, dict[str, int]] = {}
        """Ended tasks by batch and tier, at the last look; of those that were not over."""
        self._ended: dict[str, int] = defaultdict(int)
        self._rates: dict[str, Rate] = defaultdict(Rate)

    def look(self) -> Look:
        """One look.

        Raises:
            StoreError: the store cannot be read.
        """
        now_set = controls.current(self._store)
        knows_actions = schema.has(self._store, controls.SINCE)
        with self._store.reading() as connection:
            waiting = backlog(connection, now_set)
            running, more = running_batches(connection)
            new = _batches_since(connection, self._since)
            wanted = sorted({*running, *new, *self._done})
            seen = {one.batch_id: one for one in reading.progress_of(connection, wanted)}
            caps = read_budgets(connection, self._caps) if self._caps else []
            done = list(actions.recent(connection, _ACTIONS)) if knows_actions else []
        self._count(seen, new)
        self._since = max([self._since or "", *wanted])
        report, why_unknown = self._deployments()
        return Look(
            at=datetime.now(UTC),
            tiers=self._tiers(waiting),
            deployments=report,
            why_unknown=why_unknown,
            batches=self._moving(running, seen, now_set),
            more_batches=more,
            caps=caps,
            actions=done,
        )

    def _count(self, seen: Mapping[str, Progress], new: Sequence[str]) -> None:
        """Adds up what has ended since the last look. What a batch had done when it came into view is in no rate."""
        now = {batch_id: {tier: one.done for tier, one in batch.tiers.items()} for batch_id, batch in seen.items()}
        for batch_id, done in now.items():
            before = self._done.get(batch_id, {} if batch_id in new else done)
            for tier, count in done.items():
                self._ended[tier] += max(0, count - before.get(tier, 0))
        self._done = {batch_id: done for batch_id, done in now.items() if not seen[batch_id].is_over}

    def _tiers(self, waiting: Mapping[str, TierBacklog]) -> dict[str, TierFigures]:
        names = [*self._settings.tiers, *(name for name in waiting if name not in self._settings.tiers)]
        return {name: self._tier(name, waiting.get(name, TierBacklog())) for name in names}

    def _tier(self, name: str, now: TierBacklog) -> TierFigures:
        configured = self._settings.tiers.get(name)
        slots = now.workers * configured.max_in_flight if configured else 0
        return TierFigures(now, slots, self._rates[f"tier {name}"].at(self._ended[name]))

    def _moving(self, running: Sequence[str], seen: Mapping[str, Progress], now_set: Controls) -> list[BatchFigures]:
        for gone in [name for name in self._rates if not name.startswith("tier ") and name not in seen]:
            del self._rates[gone]
        return [
            BatchFigures(seen[batch_id], self._rates[batch_id].at(seen[batch_id].done), batch_id in now_set.batches)
            for batch_id in running
            if batch_id in seen
        ]

    def _deployments(self) -> tuple[Report | None, str]:
        if self._history is None:
            return None, self._why_unknown
        try:
            return self._history.report(self._settings.deployments), ""
        except redis.RedisError as error:
            return None, f"the state Redis cannot be read ({type(error).__name__}): each worker keeps its own limits"


def running_batches(connection: Connection) -> tuple[list[str], int]:
    """The ids of the newest batches that are not over, newest first; and how many more there are."""
    found: list[str] = []
    count = 0
    # One statement each: the index of those in a state holds no others.
    for state in ("running", "open"):
        are = is_word(batches.c.state, state)
        newest = select(batches.c.id).where(are).order_by(batches.c.created_at.desc()).limit(MOST_BATCHES)
        found += connection.execute(newest).scalars()
        count += connection.execute(select(func.count()).where(are)).scalar_one()
    shown = sorted(found, reverse=True)[:MOST_BATCHES]
    return shown, count - len(shown)


def _batches_since(connection: Connection, since: str | None) -> list[str]:
    """The batches that were submitted since the newest that was seen; the newest of them, should there be many."""
    if since is None:
        return []
    newer = select(batches.c.id).where(batches.c.id > since).order_by(batches.c.id.desc()).limit(_MOST_NEW)
    return list(connection.execute(newer).scalars())


def _batch_json(one: BatchFigures) -> dict[str, Any]:
    progress = one.progress
    quoted = progress.quote.cost_nusd.expected if progress.quote and progress.quote.cost_nusd else None
    return {
        "batch_id": progress.batch_id,
        "label": progress.label,
        "state": progress.state,
        "is_paused": one.is_paused,
        "total": progress.total,
        **{name: getattr(progress, name) for name in ("done", "succeeded", "failed", "cancelled", "expired")},
        "tasks_per_s": round(one.rate, 3),
        "seconds_left": None if one.seconds_left is None else round(one.seconds_left, 1),
        "cost_usd": f"{usd(progress.cost_nusd):f}",
        "unpriced": progress.unpriced,
        "quoted_usd": None if quoted is None else f"{usd(quoted):f}",
        "max_cost_usd": None if progress.max_cost_nusd is None else f"{usd(progress.max_cost_nusd):f}",
    }
