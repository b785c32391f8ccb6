"""`tierq submit`: submits a file to a stack that runs elsewhere, and returns at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tierq_console.ending import stoppable
from tierq_console.file_options import file_options, make_job
from tierq_console.progress_view import make_view
from tierq_console.readiness import load_settings
from tierq_console.running import submit


@click.command("submit")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Prints the batch's id and size as JSON.")
@click.option("--fresh", is_flag=True, help="Submits anew, also where this very job was submitted before.")
@click.option("--quiet", is_flag=True, help="Says nothing but the id, and errors.")
def command(file: Path, *, as_json: bool, fresh: bool, quiet: bool, **given: Any) -> None:
    """Submit a file and return its batch id at once, on stdout.

    The work is done by the workers of the configured database and broker, or by a `tierq up` in this folder. FILE and
    the options are those of `tierq run`, and the same job is the same batch: submitting it again changes nothing, and
    `tierq run` with the same options waits for it and writes its outcomes.

    \b
      batch=$(tierq submit tickets.csv --type classify --labels billing,bug,praise --text body --key id)
      tierq status $batch --watch
      tierq results $batch --out out.jsonl
    """
    with stoppable("stopped before the batch was whole: submit it again"), make_view(quiet=quiet) as view:
        submitted = submit(make_job(file, given), load_settings(), view, fresh=fresh)
    if as_json:
        click.echo(json.dumps(submitted.json()))
    else:
        click.echo(submitted.batch_id)
