"""Figures, and the page that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HOW = """\
# Benchmarks

    make bench                                   # everything, about 15 minutes; writes this page
    .venv/bin/python -m bench --only interactive # one section, printed
    .venv/bin/python -m bench --quick            # fewer tasks, one repetition, printed

`make bench` starts a private Redis, simulated providers and worker processes, makes its own databases, and removes all
of it. PostgreSQL is measured where `TIERQ_TEST_DATABASE_URL` (or a server on 127.0.0.1 with a database `test`) answers.
What is measured has a core for itself; the simulator, Redis and whatever only watches have another. PostgreSQL's
server runs where the system puts it. Measured values are medians, with the least and the greatest in brackets.

How good a derived routing policy is, and what it saves, stands on [a page of its own](routing/README.md); it is judged
where its data is found.
"""


class Samples(list[float]):
    """What the repetitions of one figure measured."""

    @property
    def median(self) -> float:
        return statistics.median(self)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity, and the bar it has to reach where there is one."""

    name: str
    unit: str
    samples: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        low = self.at_least is not None and self.median < self.at_least
        high = self.at_most is not None and self.median > self.at_most
        return "missed" if low or high else "met"

    @property
    def bar(self) -> str:
        bars = [f"≥ {shown(self.at_least)}"] if self.at_least is not None else []
        bars += [f"≤ {shown(self.at_most)}"] if self.at_most is not None else []
        return f"{' and '.join(bars)} {self.unit}" if bars else "–"

    @property
    def measured(self) -> str:
        median = f"{shown(self.median)} {self.unit}"
        if len(self.samples) == 1:
            return median
        return f"{median} ({shown(min(self.samples))}–{shown(max(self.samples))})"


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one module, under its docstring: a line that is their title, and what has to be known of them."""

    about: str
    figures: Sequence[Figure]
    failure: str = ""
    """Why there are none."""

    @property
    def title(self) -> str:
        return self.about.partition("\n")[0].rstrip(".")

    @property
    def text(self) -> str:
        return self.about.partition("\n")[2].strip()


def page(sections: Sequence[Section], machine: Sequence[tuple[str, str]], minutes: float) -> str:
    """README.md."""
    blocks = [_HOW, _summary(sections), "## The machine\n", *_machine(machine, minutes)]
    return "\n".join(block for block in [*blocks, *map(section_text, sections)] if block) + "\n"


def section_text(section: Section) -> str:
    """A section's title, words and table."""
    blocks = [f"\n## {section.title}\n", f"{section.text}\n" if section.text else "", *_table(section)]
    return "\n".join(block for block in blocks if block)


def _summary(sections: Sequence[Section]) -> str:
    figures = [figure for section in sections for figure in section.figures]
    with_bar = [figure for figure in figures if figure.verdict]
    missed = [figure for figure in with_bar if figure.verdict == "missed"]
    failed = [section for section in sections if section.failure]
    lines = [f"**{len(with_bar) - len(missed)} of {len(with_bar)} bars are met.**"]
    lines += [""] if missed or failed else []
    lines += [f"- Missed: {figure.name}: {figure.measured}, the bar is {figure.bar}." for figure in missed]
    lines += [f"- Not measured: {section.title}: {section.failure}." for section in failed]
    return "\n".join(lines) + "\n"


def _machine(machine: Sequence[tuple[str, str]], minutes: float) -> Iterator[str]:
    yield "| | |\n|---|---|"
    for name, value in [*machine, ("the whole run", f"{minutes:.0f} minutes")]:
        yield f"| {name} | {value} |"


def _table(section: Section) -> Iterator[str]:
    if section.failure:
        yield f"Not measured: {section.failure}."
        return
    yield "| figure | bar | measured | verdict | |\n|---|---|---|---|---|"
    for figure in section.figures:
        verdict = "**missed**" if figure.verdict == "missed" else figure.verdict
        yield f"| {figure.name} | {figure.bar} | {figure.measured} | {verdict} | {figure.note} |"


def shown(value: float) -> str:
    """Three digits that mean something, with thousands apart."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def line(figure: Figure) -> str:
    """A figure on one line, for the terminal."""
    bar = f"  [bar {figure.bar}: {figure.verdict}]" if figure.verdict else ""
    note = f"  {figure.note}" if figure.note else ""
    return f"{figure.name}: {figure.measured}{bar}{note}"
