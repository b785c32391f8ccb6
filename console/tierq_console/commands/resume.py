"""`tierq resume`: ends a pause."""

from __future__ import annotations

from functools import partial

import click

from tierq_console.steering import change, find_target, steered_store
from tierq_shared.store import controls


@click.command("resume")
@click.argument("target", metavar="TIER|DEPLOYMENT|BATCH")
def command(target: str) -> None:
    """End the pause of a tier, a deployment or a batch. What waited for it goes on within two seconds."""
    with steered_store() as (settings, store):
        found = find_target(settings, store, target)
        was_paused = change(store, "resume", found.scope, partial(controls.resume, scope=found.scope))
    click.echo(f"{found} goes on" if was_paused else f"{found} was not paused")
