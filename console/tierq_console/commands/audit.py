"""`tierq audit`: what a sample of today's requests is, where it could run, and for how much. No model is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from tierq_console.audit_input import columns_of, rows_of, usable
from tierq_console.audit_view import TAG_FIELDS, TAG_INTEGERS, Shown, tag_row
from tierq_console.ending import stoppable
from tierq_console.inputs import open_source
from tierq_console.outputs import check_output, writing
from tierq_console.policy_sources import policy_in_force
from tierq_console.starter import built_in
from tierq_console.status_view import wide_console
from tierq_insight.audit import Audit, Method
from tierq_insight.audit.auditing import Audited
from tierq_shared import configuration
from tierq_shared.options import STAKES, URGENCIES, Stakes, Urgency
from tierq_shared.policy import Policy
from tierq_shared.settings import Settings
from tierq_shared.specs import TASK_TYPES


@click.command("audit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", metavar="NAME", help="The model of today, where the file does not say.")
@click.option("--text", metavar="COLUMN", help="The column with texts that are data, such as tickets.")
@click.option("--prompt", metavar="COLUMN", help="The column with whole prompts.")
@click.option("--question", metavar="COLUMN", help="The column with questions to be answered from passages.")
@click.option("--passages", metavar="COLUMN", help="The column with the passages.")
@click.option("--output", metavar="COLUMN", help="The column with today's answers, or the right ones.")
@click.option("--model-column", metavar="COLUMN", help="The column with the model.")
@click.option("--type", "type", type=click.Choice(TASK_TYPES), help="What every row is, where you know it.")
@click.option("--instructions", metavar="TEXT|@FILE", help="What the model is told today before each text.")
@click.option("--stakes", type=click.Choice(STAKES), default="normal", show_default=True, help="What an error costs.")
@click.option("--urgency", type=click.Choice(URGENCIES), default="standard", show_default=True, help="Who waits.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Whose tiers and policy in force to take.  [default: the nearest tierq.toml, else the built-in tiers]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option(
    "--tags",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Writes each call's tag, reason, signs and tier, without its text: .jsonl, .csv or .parquet.",
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def command(
    file: Path,
    *,
    model: str | None,
    stakes: Stakes,
    urgency: Urgency,
    config: Path | None,
    limit: int | None,
    tags: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what a sample of today's requests could run on, and for how much. No model is called.

    FILE is CSV, JSONL or Parquet: request logs with `messages` and, best, `model`, `usage` and `response`; lines of a
    Batch API; or texts in a column. Each call is tagged by type, size and signs of difficulty, sent through the policy,
    and priced by its logged tokens. What it could save is a range. Quality is not looked at.

    \b
      tierq audit requests.jsonl
      tierq audit requests.jsonl --tags tags.csv --json
      tierq audit tickets.csv --text body --output label --model gpt-4o
    """
    settings, policy, origin = _tiers(config)
    source = open_source(file)
    columns = columns_of(source, given)
    if tags is not None:
        check_output(tags, file)
    method = Method(settings, policy, columns, model, stakes, urgency)
    with stoppable(), ExitStack() as stack:
        tell = _teller(stack, tags)
        report = usable(source, Audit(method, lambda: rows_of(source, limit)).report(tell))
    shown = Shown(file, origin, report)
    if as_json:
        click.echo(json.dumps(shown.json(), ensure_ascii=False))
    else:
        wide_console().print(Group(*shown.parts()), highlight=False)


def _tiers(config: Path | None) -> tuple[Settings, Policy, str]:
    """The tiers that hold, the policy in force over them, and where they are from."""
    path = config or configuration.find_file()
    settings = configuration.load(path)
    if settings.tiers:
        return settings, policy_in_force(settings), str(path)
    # No store's policy speaks of these.
    settings = built_in()
    return settings, settings.make_policy(), "TierQ's built-in tiers and rules"


def _teller(stack: ExitStack, tags: Path | None) -> Callable[[Audited], None]:
    """What is done with each call as it is audited: its tag is written where a file for it was named."""
    if tags is None:
        return lambda _one: None
    writer = stack.enter_context(writing(tags, TAG_FIELDS, TAG_INTEGERS))
    return lambda one: writer.write(tag_row(one))
