"""What the demo shows while it runs: each tier's progress, cost and time left, and what happens to the providers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tierq_console.progress_view import Rate
from tierq_shared.money import show_usd
from tierq_shared.store.reading import Progress, TierProgress

_PLAIN_EVERY_S = 2.0
_EVENTS_SHOWN = 6


@dataclass
class Snapshot:
    """How the demo's batch is, tier by tier."""

    progress: Progress
    waiting: Mapping[str, int]
    running: Mapping[str, int]
    """Tasks by tier that wait, and that are under way."""


@dataclass
class LiveView:
    """A live table on a terminal, plain lines elsewhere."""

    console: Console = field(default_factory=lambda: Console(file=sys.stdout))
    events: list[str] = field(default_factory=list)
    _rates: dict[str, Rate] = field(default_factory=dict)
    _live: Live | None = None
    _last_line: float = 0.0

    def __enter__(self) -> LiveView:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, text: str) -> None:
        """Something happened that the viewer should know of."""
        self.events.append(f"{time.strftime('%H:%M:%S')}  {text}")
        if self._live is None:
            self.console.print(self.events[-1], highlight=False)

    def show(self, snapshot: Snapshot) -> None:
        if self._live is not None:
            self._live.update(self._table(snapshot))
        elif time.monotonic() - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            progress = snapshot.progress
            rate = self._rate("all", progress.done)
            self.console.print(
                f"{progress.done}/{progress.total} done, {progress.failed} failed, {rate:.0f} tasks/s, "
                f"{show_usd(progress.cost_nusd)} so far, {_left(progress, rate)} left",
                highlight=False,
            )

    def _table(self, snapshot: Snapshot) -> Group:
        progress = snapshot.progress
        table = Table(title="TierQ demo: a simulator answers in the providers' place", title_justify="left")
        for name in ("tier", "done", "failed", "waiting", "running", "tasks/s", "cost so far"):
            table.add_column(name, justify="left" if name == "tier" else "right", min_width=8)
        for name in snapshot.waiting:
            tier = progress.tiers.get(name, TierProgress())
            table.add_row(
                name,
                str(tier.succeeded),
                str(tier.failed),
                str(snapshot.waiting[name]),
                str(snapshot.running.get(name, 0)),
                f"{self._rate(name, tier.done):.1f}",
                show_usd(tier.cost_nusd),
            )
        rate = self._rate("all", progress.done)
        total = (
            f"{progress.done} of {progress.total} tasks, {show_usd(progress.cost_nusd)}, {_left(progress, rate)} left"
        )
        return Group(table, Text(total), Text("\n".join(self.events[-_EVENTS_SHOWN:]), style="yellow"))

    def _rate(self, name: str, done: int) -> float:
        return self._rates.setdefault(name, Rate()).at(done)


def _left(progress: Progress, rate: float) -> str:
    if not rate or progress.total is None:
        return "…"
    return str(timedelta(seconds=round((progress.total - progress.done) / rate)))
