"""`tierq pause`: nothing new is begun of a tier, a deployment or a batch."""

from __future__ import annotations

from functools import partial

import click

from tierq_console.steering import change, find_target, steered_store
from tierq_shared.store import controls

_HELD = {
    "tier": "no task of it is begun",
    "deployment": "no call to it is begun; its tiers go on with the others of their chains",
    "batch": "no task of it is begun",
}


@click.command("pause")
@click.argument("target", metavar="TIER|DEPLOYMENT|BATCH")
def command(target: str) -> None:
    """Begin nothing new of a tier, a deployment or a batch, on every host, until `tierq resume`.

    It holds within two seconds and over restarts. Calls under way are finished. Tasks that wait keep their deadlines.

    \b
      tierq pause large
      tierq pause batch:0198f3a2       where a name could be meant otherwise: tier:, deployment: or batch: before it
    """
    with steered_store() as (settings, store):
        found = find_target(settings, store, target)
        is_new = change(store, "pause", found.scope, partial(controls.pause, scope=found.scope))
    said = "is paused" if is_new else "was paused already"
    click.echo(f"{found} {said}: {_HELD[found.kind]}, until `tierq resume {target}`")
