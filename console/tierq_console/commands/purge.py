"""`tierq purge`: erases what is private about every task that ended before a time."""

from __future__ import annotations

from datetime import datetime

import click

from tierq.client import find_settings
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.times import read_time
from tierq_shared.store import purging
from tierq_shared.store.connection import Store
from tierq_shared.store.erasing import check_tables


@click.command("purge")
@click.option("--before", required=True, metavar="SPAN|TIME", help="Tasks that ended before: 90d ago, or at a time.")
@click.option("--dry-run", is_flag=True, help="Only says how many tasks there are.")
@click.option("--yes", is_flag=True, help="Does not ask.")
def command(before: str, *, dry_run: bool, yes: bool) -> None:
    """Erase input, output, cached answers and quoted errors of every task that ended before a time.

    Costs, tokens and counts stay. It cannot be taken back. Stopped half-way, it goes on when it is typed again.
    [retention] in tierq.toml does the same day by day.

    \b
      tierq purge --before 90d --dry-run
      tierq purge --before 2031-05-01T00:00:00Z --yes
    """
    time = read_time(before, "--before")
    with (
        stoppable("stopped; what was erased is gone, type it again for the rest"),
        open_store(find_settings(None)) as store,
    ):
        found = purging.count(store, time)
        click.echo(f"{_tasks(found)} ended before {time:%Y-%m-%d %H:%M} UTC and still have something private")
        if found and not dry_run:
            _purge(store, time, yes=yes)


def _purge(store: Store, time: datetime, *, yes: bool) -> None:
    check_tables(store)
    if not yes:
        click.confirm("Erase it for good?", abort=True, err=True)
    done = purging.purge(store, time)
    click.echo(f"what was private about {_tasks(done.tasks)} is erased; {done.cache_entries:,} cached answers are gone")


def _tasks(count: int) -> str:
    return f"{count:,} task{'s' if count != 1 else ''}"
