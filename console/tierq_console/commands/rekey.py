"""`tierq rekey`: encrypts payloads with the first key of the environment."""

from __future__ import annotations

import click

from tierq.client import find_settings
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_shared.store import rekeying, sealed


@click.command("rekey")
@click.option("--new", is_flag=True, help="Only prints a fresh key.")
def command(*, new: bool) -> None:
    """Encrypt all payloads with the first key of TIERQ_PAYLOAD_KEYS: those under older keys, and those under none.

    Give every producer and worker the new key first. Stopped half-way, it goes on when it is typed again.

    \b
      tierq rekey --new                                   a key for TIERQ_PAYLOAD_KEYS
      TIERQ_PAYLOAD_KEYS="$NEW,$OLD" tierq rekey
    """
    if new:
        click.echo(sealed.new_key())
        return
    with stoppable("stopped; type it again for the rest"), open_store(find_settings(None)) as store:
        done = rekeying.rekey(store)
    click.echo(f"{done:,} texts were encrypted anew; all are under the first key now")
