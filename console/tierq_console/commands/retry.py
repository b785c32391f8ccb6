"""`tierq retry`: sends a batch's failed tasks again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.failures_view import sent_again
from tierq_console.running import unserved
from tierq_console.steering import note
from tierq_shared import configuration
from tierq_shared.ids import prefix
from tierq_shared.settings import Settings
from tierq_shared.store import dead_letters
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import batch_scope


@click.command("retry")
@click.argument("batch")
@click.option(
    "--code", "codes", multiple=True, metavar="CODE", help="Failures of this code; may be given several times."
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def command(batch: str, codes: tuple[str, ...], *, as_json: bool) -> None:
    """Send the failed tasks of BATCH again. The first digits of its id are enough.

    Without --code, those are sent whose failure lay in the circumstances: a provider that was down, a worker that died.
    What a provider refused, or the model could not answer, would only cost again: name its code to send it all the
    same. Attempts are kept in the ledger and stay charged; each task gets `worker.max_attempts` further calls.

    \b
      tierq failures 0198f3a2                what failed, and why
      tierq retry 0198f3a2                   once the cause is gone
      tierq retry 0198f3a2 --code refused    those, too
      tierq results 0198f3a2 --wait --out answers.jsonl
    """
    settings = find_settings(None)
    with stoppable("stopped; what was queued again goes on"), open_store(settings) as store:
        batch_id = find_batch(store, batch)
        done = dead_letters.retry(store, batch_id, codes or None)
        note(store, "retry", batch_scope(batch_id), {"tasks": done.total})
        steps = list(_next_steps(settings, store, batch_id)) if done.total else []
    if as_json:
        click.echo(json.dumps(asdict(done), ensure_ascii=False))
    else:
        click.echo("\n".join([*sent_again(done), *steps]))


def _next_steps(settings: Settings, store: Store, batch_id: str) -> Iterator[str]:
    tiers = unserved(store, batch_id)
    if tiers and _is_embedded(settings):
        yield "nothing works here now: `tierq up` does, and so does the `tierq run` of this batch, once more"
        return
    for tier in tiers:
        yield f"no live worker serves tier {tier!r}: start one with `tierq worker {tier}`"
    yield f"`tierq results {prefix(batch_id)} --wait` waits for the outcomes and writes them"


def _is_embedded(settings: Settings) -> bool:
    url = settings.database_url
    return (
        url is not None and url.get_secret_value() == configuration.embedded_paths(settings.path).urls()["database_url"]
    )
