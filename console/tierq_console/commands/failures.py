"""`tierq failures`: why tasks of a batch failed."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Group

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.failures_view import causes
from tierq_console.status_view import wide_console
from tierq_shared.store import dead_letters, reading


@click.command("failures")
@click.argument("batch")
@click.option(
    "--limit", type=click.IntRange(min=1), default=dead_letters.GROUPS, show_default=True, help="Causes to show."
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def command(batch: str, limit: int, *, as_json: bool) -> None:
    """Show why tasks of BATCH failed: by cause, each with an example and every attempt that was made for it.

    The first digits of the batch's id are enough. `tierq retry` sends failed tasks again.
    """
    with stoppable(), open_store(find_settings(None)) as store:
        batch_id = find_batch(store, batch)
        with store.reading() as connection:
            found = dead_letters.failures(connection, batch_id, limit)
            progress = reading.progress(connection, batch_id)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        wide_console().print(Group(*causes(found, progress)), highlight=False)
