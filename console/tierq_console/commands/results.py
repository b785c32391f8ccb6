"""`tierq results`: writes a batch's outcomes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.entry import OK, SOME_FAILED
from tierq_console.outputs import STDOUT, check_output
from tierq_console.progress_view import View, make_view
from tierq_console.quote_view import outcome_lines
from tierq_console.readiness import working_settings
from tierq_console.running import wait_for, write_outcomes
from tierq_shared.store import reading
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress


@click.command("results")
@click.argument("batch")
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    default=STDOUT,
    metavar="FILE",
    help="Where the outcomes go: .jsonl, .csv or .parquet.  [default: JSONL on stdout]",
)
@click.option("--wait", is_flag=True, help="Waits until every task has ended.")
@click.option("--quiet", is_flag=True, help="Says nothing but errors.")
def command(batch: str, out: Path, *, wait: bool, quiet: bool) -> None:
    """Write the outcomes of BATCH, in the order of its tasks. The first digits of its id are enough.

    Of a batch that is not over, every task comes as it stands now, waiting ones with state `queued`; --wait waits for
    the end. Exit codes: 0 all that ended succeeded, 1 some did not.
    """
    check_output(out)
    with stoppable("stopped; the work goes on"), make_view(quiet=quiet) as view, ExitStack() as cleanup:
        settings = cleanup.enter_context(working_settings()) if wait else find_settings(None)
        store = cleanup.enter_context(open_store(settings))
        batch_id = find_batch(store, batch)
        progress = wait_for(store, batch_id, view) if wait else _progress(store, batch_id, view)
        write_outcomes(settings, batch_id, out)
        for line in outcome_lines(progress):
            view.note(line)
    sys.exit(OK if progress.succeeded == progress.done else SOME_FAILED)


def _progress(store: Store, batch_id: str, view: View) -> Progress:
    with store.reading() as connection:
        progress = reading.progress(connection, batch_id)
    if not progress.is_over:
        total = f"{progress.total:,}" if progress.total is not None else "…"
        view.note(f"batch {batch_id} is {progress.state}: {progress.done:,} of {total} have ended (--wait waits)")
    return progress
