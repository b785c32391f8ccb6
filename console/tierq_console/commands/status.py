"""`tierq status`: recent batches and what waits on each tier, or one batch by tier and state; and live workers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial

import click
from rich.console import Group
from rich.live import Live

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.status_view import Report, read_report, wide_console

WATCH_EVERY_S = 1.0


@click.command("status")
@click.argument("batch", required=False)
@click.option("--watch", is_flag=True, help="Looks again every second, until the batch is over or Ctrl-C.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Batches to list.")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON; with --watch, one object a line.")
def command(batch: str | None, limit: int, *, watch: bool, as_json: bool) -> None:
    """Show the latest batches, or one BATCH by tier and state. The first digits of an id are enough."""
    settings = find_settings(None)
    with stoppable(), open_store(settings) as store:
        batch_id = find_batch(store, batch) if batch else None
        look = partial(read_report, store, batch_id, limit, [rule.cap for rule in settings.caps])
        if watch:
            _watch(look, as_json=as_json)
        else:
            _print(look(), as_json=as_json)


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.json(), ensure_ascii=False))
    else:
        console = wide_console()
        console.print(Group(*report.tables(console.width)))


def _watch(look: Callable[[], Report], *, as_json: bool) -> None:
    console = wide_console()
    if as_json or not console.is_terminal:
        while _once_more(report := look()):
            _print(report, as_json=as_json)
            threading.Event().wait(WATCH_EVERY_S)
        _print(report, as_json=as_json)
        return
    with Live(console=console) as live:
        while _once_more(report := look()):
            live.update(Group(*report.tables(console.width)))
            threading.Event().wait(WATCH_EVERY_S)
        live.update(Group(*report.tables(console.width)))


def _once_more(report: Report) -> bool:
    return report.batch is None or not report.batch.is_over
