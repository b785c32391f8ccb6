"""`tierq doctor`: says what is configured, reachable and priced."""

from __future__ import annotations

import sys

import click
import orjson

from tierq_console import diagnosis
from tierq_console.entry import BAD_INPUT, OK
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list of part, ok, what and mend.")
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """Say what is configured, reachable and priced, and how to mend what is not. Nothing that costs is called.

    Exit 0 where all is well, 2 where something is to be mended.

    \b
      tierq doctor
      tierq doctor --json | jq '.[] | select(.ok == false)'
    """
    path = configuration.find_file()
    settings = configuration.load(path)
    if path is None and settings.database_url is None:
        raise ConfigurationError("no tierq.toml was found here or above: `tierq init` writes one")
    findings = diagnosis.examine(settings)
    if as_json:
        click.echo(orjson.dumps([finding.json() for finding in findings], option=orjson.OPT_INDENT_2))
    else:
        _print(findings)
    context.exit(BAD_INPUT if any(finding.ok is False for finding in findings) else OK)


def _print(findings: list[diagnosis.Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        sign = {True: "✓", False: "✗", None: "–"}[finding.ok]
        style = {True: "green", False: "red", None: "dim"}[finding.ok]
        what = Text(finding.what)
        if finding.mend:
            what.append(f"\n→ {finding.mend}", style="dim" if finding.ok is None else "")
        table.add_row(Text(sign, style=style), Text(finding.part), what)
    # A file or a pipe is as wide as it needs to be.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
