"""`tierq quote`: says what a file of texts or tasks will cost and how long it will take, and spends nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tierq_console.ending import stoppable
from tierq_console.file_options import file_options, make_job
from tierq_console.progress_view import make_view
from tierq_console.quote_view import quote_json, quote_lines
from tierq_console.readiness import load_settings
from tierq_console.running import quote


@click.command("quote")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Prints the quote as JSON.")
@click.option("--quiet", is_flag=True, help="Says nothing but the quote, and errors.")
def command(file: Path, *, as_json: bool, quiet: bool, **given: Any) -> None:
    """Say what FILE will cost and how long it will take: low, expected and high, in all and by tier.

    FILE and the options are those of `tierq run`. Nothing is submitted, called or spent. Four in five actual figures
    are meant to lie between low and high. The estimates learn from the ledger, so the second quote of a kind is far
    better than the first.

    \b
      tierq quote tickets.csv --type classify --labels billing,bug,praise --text body --key id
    """
    with stoppable("stopped; nothing was submitted"), make_view(quiet=quiet) as view:
        found = quote(make_job(file, given), load_settings(), view)
    click.echo(json.dumps(quote_json(found), ensure_ascii=False) if as_json else "\n".join(quote_lines(found)))
