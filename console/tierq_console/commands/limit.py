"""`tierq limit`: another rate limit, on every host at once."""

from __future__ import annotations

from functools import partial

import click

from tierq_console.steering import change, find_deployment, steered_store
from tierq_shared.store import controls


@click.command("limit")
@click.argument("deployment")
@click.option("--rpm", type=click.IntRange(min=1), help="Requests a minute.")
@click.option("--tpm", type=click.IntRange(min=1), help="Tokens a minute, input and output together.")
@click.option("--clear", is_flag=True, help="Back to what tierq.toml says.")
def command(deployment: str, rpm: int | None, tpm: int | None, *, clear: bool) -> None:
    """Limit how fast DEPLOYMENT is called, in place of what tierq.toml says, on every host within two seconds.

    Deployments that share a limit share this one. It holds over restarts, until --clear. What is not given here is as
    tierq.toml says. A lower limit that the provider's headers tell still holds.

    \b
      tierq limit mini --rpm 300
      tierq limit mini --clear
    """
    if clear == bool(rpm or tpm):
        raise click.UsageError("give --rpm, --tpm or both; or --clear alone")
    with steered_store() as (settings, store):
        found = find_deployment(settings, deployment)
        scope = controls.limit_scope(found)
        given = {name: value for name, value in (("rpm", rpm), ("tpm", tpm)) if value}
        change(store, "limit", scope, partial(controls.limit, scope=scope, rpm=rpm, tpm=tpm), given)
        sharing = [one.name for one in settings.deployments.values() if controls.limit_scope(one) == scope]
    allowed = " and ".join(f"{value:,} {name.upper()}" for name, value in given.items()) or "what tierq.toml says"
    click.echo(f"{', '.join(sharing)}: {allowed} from now on")
