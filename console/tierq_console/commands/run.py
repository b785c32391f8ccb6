"""`tierq run`: runs a file of texts or tasks, and writes the outcomes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tierq_console.ending import stoppable
from tierq_console.entry import BAD_INPUT, OK, SOME_FAILED
from tierq_console.file_options import file_options, make_job
from tierq_console.outputs import STDOUT, check_output
from tierq_console.progress_view import make_view
from tierq_console.readiness import load_settings
from tierq_console.running import Order, run


@click.command("run")
@file_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Where the outcomes go: .jsonl, .csv or .parquet, or - for JSONL on stdout.  [default: FILE.out.jsonl]",
)
@click.option("--json", "as_json", is_flag=True, help="Prints a summary as JSON on stdout.")
@click.option("--fresh", is_flag=True, help="Starts anew and pays anew, also where this very job was run before.")
@click.option("--quote", is_flag=True, help="Says what it will cost before it begins, as on a terminal.")
@click.option("--quiet", is_flag=True, help="Says nothing but errors.")
def command(
    file: Path, out: Path | None, *, as_json: bool, fresh: bool, quote: bool, quiet: bool, **given: Any
) -> None:
    """Run a file of texts or tasks and write the outcomes, a row each, in the file's order.

    FILE is CSV, JSONL or Parquet. All of it is checked before anything is spent. After Ctrl-C or a crash the same
    command carries on where it was, and pays nothing twice.

    \b
      tierq run tickets.csv --type classify --labels billing,bug,praise --text body --key id --out out.jsonl
      tierq run docs.jsonl --type extract --schema invoice.schema.json
      tierq run questions.jsonl --type answer --question q --passages found
      tierq run tasks.jsonl     each line {"type": "classify", "text": …, "labels": […], "key": …}

    Exit codes: 0 all succeeded, 1 some failed, 2 bad input or configuration, 130 stopped.
    """
    output = out or file.with_name(f"{file.name}.out.jsonl")
    if as_json and output == STDOUT:
        click.echo("tierq: --json and --out - would both write to stdout: give --out a file", err=True)
        sys.exit(BAD_INPUT)
    check_output(output, file)
    with stoppable(), make_view(quiet=quiet) as view:
        summary = run(Order(make_job(file, given), output, fresh, quote or sys.stdout.isatty()), load_settings(), view)
    if not quiet:
        click.echo("\n".join(summary.lines()), err=True)
    if as_json:
        click.echo(json.dumps(summary.json(), ensure_ascii=False))
    sys.exit(OK if summary.all_succeeded else SOME_FAILED)
