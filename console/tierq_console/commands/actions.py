"""`tierq actions`: who did what."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Column, Table
from rich.text import Text

from tierq_console.status_view import wide_console
from tierq_console.steering import steered_store
from tierq_shared.store import actions
from tierq_shared.store.actions import Action


@click.command("actions")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON, an object a line.")
def command(limit: int, *, as_json: bool) -> None:
    """Show who paused, limited, cancelled, retried or erased what, newest first.

    Who: user and host of the command, or what TIERQ_ACTOR said.
    """
    with steered_store() as (_, store), store.reading() as connection:
        found = list(actions.recent(connection, limit))
    if as_json:
        for one in found:
            click.echo(json.dumps({**asdict(one), "at": one.at.isoformat()}, ensure_ascii=False))
    else:
        wide_console().print(_table(found) if found else "nobody has changed anything yet", highlight=False)


def _table(found: list[Action]) -> Table:
    table = Table(Column("when", no_wrap=True), "who", "what", "of", "details", box=None, pad_edge=False)
    for one in found:
        details = ", ".join(f"{name} {value}" for name, value in one.details.items())
        when = one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, Text(one.actor), one.action, Text(one.target), Text(details))
    return table
