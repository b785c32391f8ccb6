"""`tierq evaluate`: runs labelled samples through deployments, and says how good and how dear each is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tierq_console.ending import stoppable
from tierq_console.evaluating import Agree, Order, Quote, evaluate
from tierq_console.evaluation_view import print_result, quote_lines, result_json
from tierq_console.file_options import make_job, row_options
from tierq_console.progress_view import View, make_view
from tierq_console.readiness import load_settings
from tierq_console.sample_file import labelled_job
from tierq_console.targets import find_targets, load_scorer
from tierq_shared.errors import InvalidInput
from tierq_shared.money import to_nano
from tierq_shared.settings import Settings

_FILE_WIDTH = 150
"""Of tables in a file or a pipe, which are as wide as they need be."""


@click.command("evaluate")
@row_options
@click.option("--deployments", required=True, metavar="A,B,…", help="The deployments to compare, by name.")
@click.option(
    "--expected",
    metavar="COLUMN",
    help="The column with what is right: a label; an object of fields; answer, citations, answerable.  "
    "[default: expected]",
)
@click.option("--judge", metavar="DEPLOYMENT", help="generate: a deployment that grades texts. Its cost counts.")
@click.option("--scorer", metavar="MODULE:FUNCTION", help="generate: a function (prompt, text, expected) → 0 to 1.")
@click.option("--max-cost", metavar="USD", help="The most that the evaluation may cost.")
@click.option("--yes", is_flag=True, help="Agrees to the quote without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Prints the result as JSON on stdout.")
@click.option("--fresh", is_flag=True, help="Starts anew and pays anew, also where this evaluation was run before.")
@click.option("--quiet", is_flag=True, help="Says nothing but the result, and errors.")
def command(file: Path, *, yes: bool, as_json: bool, quiet: bool, **given: Any) -> None:
    """Run labelled samples through deployments, as ordinary tasks, and report quality, cost, latency and failures.

    FILE is one that `tierq run` reads, with a column for what is right. Every figure comes with its 95 % interval, by
    kind of task and size of input. A quote comes first. After Ctrl-C or a crash the same command carries on where it
    was; what it finds is kept as evidence for `tierq policy derive`.

    \b
      tierq evaluate tickets.csv --type classify --labels tickets.labels.json --text body \\
        --expected label --deployments luna,sol
      tierq evaluate invoices.jsonl --type extract --schema invoice.schema.json --deployments luna,sol --max-cost 0.50
      tierq evaluate briefs.jsonl --type generate --prompt brief --judge sol --deployments luna,terra

    Exit codes: 0 evaluated, 2 bad input or configuration, 130 stopped or not agreed.
    """
    settings = load_settings()
    with stoppable(), make_view(quiet=quiet) as view:
        order = _order(file, given, settings)
        result = evaluate(order, settings, view, _asking(view, yes=yes))
    if as_json:
        click.echo(json.dumps(result_json(result), ensure_ascii=False))
    else:
        print_result(Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH), result)


def _order(file: Path, given: dict[str, Any], settings: Settings) -> Order:
    judge, scorer = given["judge"], given["scorer"]
    return Order(
        job=labelled_job(make_job(file, given), given["expected"]),
        targets=find_targets(settings, given["deployments"].split(","), "--deployments"),
        judge=find_targets(settings, [judge], "--judge")[0] if judge else None,
        scorer=(scorer, load_scorer(scorer)) if scorer else None,
        max_cost_nusd=_nano(given["max_cost"]) if given["max_cost"] else None,
        fresh=given["fresh"],
    )


def _asking(view: View, *, yes: bool) -> Agree:
    """Shows the quote, and asks on a terminal; elsewhere nobody could answer, and --max-cost is the bound."""

    def agree(quoted: Quote) -> bool:
        view.note("\n".join(quote_lines(quoted)))
        return yes or not sys.stdin.isatty() or view.ask("Go on?")

    return agree


def _nano(amount: str) -> int:
    try:
        return to_nano(amount.strip().removeprefix("$"))
    except ValueError as error:
        raise InvalidInput(f"--max-cost {amount}: {error}") from None
