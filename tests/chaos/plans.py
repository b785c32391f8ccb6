"""Query plans of a full store: `PYTHONPATH=tests python -m chaos.plans [--rows 1000000] [--store both]`.

Fills a store, runs everything that an installation runs again and again, and fails where a statement goes through all
of a table that grows. The figures go to `docs/reliability.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from chaos.driving import Driven, drive
from chaos.filling import analyze, fill
from chaos.page import write_section
from support.servers import fresh_postgres
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

STORES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Look:
    """All statements over one store, filled."""

    store: str
    driven: list[Driven]
    before_statistics: list[Driven]
    """The same before PostgreSQL's autovacuum came by for the first time; empty on SQLite, which has none."""
    filled_s: float

    @property
    def scans(self) -> list[Driven]:
        return [one for one in self.driven if one.statement.scans]


def main() -> int:
    options = _options()
    stores = STORES if options.store == "both" else (options.store,)
    looks = [look(name, options.rows) for name in stores]
    text = report(looks, options.rows)
    print(text)
    if options.page:
        write_section("plans", text)
    return 1 if any(one.scans for one in looks) else 0


def look(name: str, rows: int) -> Look:
    """Fills a store of its own, and drives it."""
    with filled_store(name) as store:
        began = time.monotonic()
        filled = fill(store, rows)
        seconds = time.monotonic() - began
        before = [] if store.is_sqlite else list(drive(store, filled))
        analyze(store)
        return Look(name, list(drive(store, filled)), before, seconds)


@contextmanager
def filled_store(name: str) -> Iterator[Store]:
    """A migrated, empty store that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tierq-plans-") as folder, _url(name, Path(folder)) as url:
        store = Store(url)
        try:
            schema.migrate(store)
            yield store
        finally:
            store.close()


@contextmanager
def _url(name: str, folder: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{folder}/tierq.db"
    else:
        with fresh_postgres() as url:
            yield url


def report(looks: list[Look], rows: int) -> str:
    """For people, in Markdown."""
    lines = [f"`make plans` fills a store with {rows:,} tasks and asks it how it runs each statement.", ""]
    for one in looks:
        lines += [_summary(one), "", "| function | tables and indexes | ms |", "|---|---|---|"]
        lines += [_row(name, list(group)) for name, group in groupby(one.driven, key=lambda driven: driven.function)]
        lines += ["", *_without_statistics(one)]
    return "\n".join(lines)


def _summary(look: Look) -> str:
    found = "none scans a growing table" if not look.scans else f"**{len(look.scans)} scan a growing table**"
    slowest = max(look.driven, key=lambda one: one.statement.ms)
    said = f"the slowest, of `{slowest.function}`, took {slowest.statement.ms:.0f} ms"
    return f"**{look.store}**: {len(look.driven)} statements, {found}; {said}. Filled in {look.filled_s:.0f} s."


def _row(function: str, driven: list[Driven]) -> str:
    """All statements of one run of a function, together."""
    steps = dict.fromkeys(step for one in driven for step in one.statement.steps)
    said = "; ".join(f"**{step} (scan)**" if step.is_scan else str(step) for step in steps)
    return f"| {function} | {said} | {sum(one.statement.ms for one in driven):.1f} |"


def _without_statistics(look: Look) -> Iterator[str]:
    """PostgreSQL guesses until autovacuum has analysed the tables for the first time, as a rule within a minute."""
    if not look.before_statistics:
        return
    scans = [one for one in look.before_statistics if one.statement.scans]
    if not scans:
        yield "Before the tables have statistics, nothing scans either."
        return
    named = dict.fromkeys(f"{one.function} ({one.statement.ms:.0f} ms)" for one in scans)
    yield f"Before autovacuum has analysed the tables for the first time, these do scan: {', '.join(named)}."
    yield ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--no-page", dest="page", action="store_false", help="leave docs/reliability.md as it is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
