"""Shows how far a batch is: a bar on a terminal, a plain line now and then elsewhere, nothing where quiet is wanted."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from datetime import timedelta
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from tierq_shared.money import show_usd
from tierq_shared.store.reading import Progress

PLAIN_EVERY_S = 5.0
_RATE_SPAN_S = 10.0


class View(ABC):
    """What the user sees while a command works. All of it goes to stderr."""

    @abstractmethod
    def note(self, message: str) -> None:
        """Says one thing."""

    @abstractmethod
    def show(self, progress: Progress, total: int | None) -> None:
        """Shows how far the batch is; ``total`` is None while it is not known."""

    def ask(self, question: str) -> bool:
        """Asks for a yes on the terminal."""
        return click.confirm(question, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  # most views have nothing to take down
        """Takes down what is shown."""


class Rate:
    """Tasks per second over the last seconds, so that what a former run did counts for nothing."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def at(self, done: int) -> float:
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and self._marks[0][0] < now - _RATE_SPAN_S:
            del self._marks[0]
        began, first = self._marks[0]
        return (done - first) / (now - began) if now > began else 0.0


def make_view(*, quiet: bool) -> View:
    """The view that fits where stderr goes."""
    if quiet:
        return QuietView()
    return BarView() if sys.stderr.isatty() else PlainView()


class QuietView(View):
    """Says nothing."""

    def note(self, message: str) -> None:
        pass

    def show(self, progress: Progress, total: int | None) -> None:
        pass


class PlainView(View):
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._next = time.monotonic() + PLAIN_EVERY_S

    def note(self, message: str) -> None:
        click.echo(message, err=True)

    def show(self, progress: Progress, total: int | None) -> None:
        rate = self._rate.at(progress.done)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_S
            self.note(f"{progress.done:,} of {_count(total)} · {told(progress, total, rate)}")


class BarView(View):
    """A bar that moves, for terminals."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._bar = Bar(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, told="", visible=False)
        self._bar.start()

    def note(self, message: str) -> None:
        self._bar.console.print(message, markup=False, highlight=False)

    def show(self, progress: Progress, total: int | None) -> None:
        words = told(progress, total, self._rate.at(progress.done))
        self._bar.update(self._task, completed=progress.done, total=total, told=words, visible=True)

    def ask(self, question: str) -> bool:
        self._bar.stop()
        try:
            return super().ask(question)
        finally:
            self._bar.start()

    def close(self) -> None:
        self._bar.stop()


def told(progress: Progress, total: int | None, rate: float) -> str:
    """Failures, speed, cost, time left and tiers in words, as `3 failed · 210/s · $0.0123 · 4 s left · small 412`."""
    left = max(0, (total or 0) - progress.done)
    unpriced = f" and {progress.unpriced:,} unpriced" if progress.unpriced else ""
    parts = [f"{progress.failed:,} failed"] if progress.failed else []
    parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s", show_usd(progress.cost_nusd) + unpriced]
    if left and rate > 0:
        parts.append(f"{span(left / rate)} left")
    parts += [f"{name} {tier.done:,}" for name, tier in progress.tiers.items()]
    return " · ".join(parts)


def _count(total: int | None) -> str:
    return "…" if total is None else f"{total:,}"


def span(seconds: float) -> str:
    """A span of time, as `12 s` or `1:02:30`."""
    return f"{seconds:.0f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
