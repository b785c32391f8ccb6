"""`tierq export`: the ledger, for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.outputs import STDOUT, check_output, writing
from tierq_console.times import read_time
from tierq_insight import telemetry


@click.group("export")
def command() -> None:
    """Export what the ledger holds."""


@command.command("telemetry")
@click.option("--batch", metavar="BATCH", help="Of this batch only; the first digits of its id are enough.")
@click.option("--since", metavar="2h|TIME", help="Of calls since then: a span back from now, or a time with its zone.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    default=STDOUT,
    metavar="FILE",
    help="Where the records go: .jsonl, .csv or .parquet.  [default: JSONL on stdout]",
)
def telemetry_command(batch: str | None, since: str | None, out: Path) -> None:
    """Export a record of every call: taskId, taskType, modelSelected, tokens, cost, latency, timestamp and more.

    `cost` is USD as exact text, null where the price is unknown; `latency` is milliseconds.
    """
    check_output(out)
    with stoppable(), open_store(find_settings(None)) as store:
        batch_id = find_batch(store, batch) if batch else None
        records = telemetry.records(store, batch_id=batch_id, since=read_time(since, "--since") if since else None)
        with writing(out, telemetry.FIELDS, telemetry.INTEGERS) as writer:
            for record in records:
                writer.write(record)
