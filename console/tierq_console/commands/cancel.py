"""`tierq cancel`: stops a batch."""

from __future__ import annotations

import click

from tierq.client import Client, find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.steering import note
from tierq_shared.store.controls import batch_scope


@click.command("cancel")
@click.argument("batch")
def command(batch: str) -> None:
    """Stop BATCH: what waits becomes `cancelled`, what is finished is kept. The first digits of its id are enough."""
    settings = find_settings(None)
    with open_store(settings) as store, Client(settings=settings) as client:
        batch_id = find_batch(store, batch)
        handle = client.batch(batch_id)
        before = handle.progress()
        if before.is_over:
            click.echo(f"batch {batch_id} is over already: {before.done:,} of {before.total or 0:,} have ended")
            return
        handle.cancel()
        note(store, "cancel", batch_scope(batch_id))
    click.echo(f"batch {batch_id} is stopped: {before.done:,} tasks had ended and are kept, no other is begun")
