"""`tierq config`: shows every setting and where it came from."""

from __future__ import annotations

import sys

import click
import orjson

from tierq_console import provenance
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list of name, value and source.")
def command(*, as_json: bool) -> None:
    """Show every setting and where it came from: file and line, environment, or default. Secrets are masked.

    \b
      tierq config
      tierq config --json | jq '.[] | select(.source == "default")'
    """
    path = configuration.find_file()
    settings = configuration.load(path)
    if path is None and settings.database_url is None:
        raise ConfigurationError("no tierq.toml was found here or above: `tierq init` writes one")
    values = provenance.values(settings)
    if as_json:
        click.echo(orjson.dumps([value.json() for value in values], option=orjson.OPT_INDENT_2))
        return
    _print(values)


def _print(values: list[provenance.Value]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    for value in values:
        shown = "–" if value.value is None else value.value if isinstance(value.value, str) else _json(value.value)
        table.add_row(Text(value.name), Text(shown), Text(value.source))
    # A file or a pipe is as wide as it needs to be.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
