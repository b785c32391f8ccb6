"""`tierq cap`: raises or lowers a batch's cost cap."""

from __future__ import annotations

import click

from tierq.client import Client, find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.steering import note
from tierq_shared.money import show_usd
from tierq_shared.options import check_max_cost
from tierq_shared.store.controls import batch_scope


@click.command("cap")
@click.argument("batch")
@click.argument("usd", metavar="USD")
def command(batch: str, usd: str) -> None:
    """Let the calls of BATCH cost USD together, from the next one on. The first digits of its id are enough.

    What waits for room goes on at once; what failed with `cap_reached` is sent again by `tierq retry`. The batch must
    have been submitted with a cap.
    """
    limit = check_max_cost(usd)
    settings = find_settings(None)
    with open_store(settings) as store, Client(settings=settings) as client:
        batch_id = find_batch(store, batch)
        handle = client.batch(batch_id)
        handle.set_cap(usd)
        note(store, "cap", batch_scope(batch_id), {"usd": usd})
        progress = handle.progress()
    click.echo(f"batch {batch_id} may cost {show_usd(limit)}; {show_usd(progress.cost_nusd)} is charged to it so far")
