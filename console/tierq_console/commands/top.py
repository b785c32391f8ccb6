"""`tierq top`: a live view of tiers, deployments and batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tierq.client import find_settings
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.keys import keys
from tierq_console.status_view import wide_console
from tierq_console.top_figures import Look, Watcher
from tierq_console.top_view import frame
from tierq_shared.errors import StoreError
from tierq_shared.settings import Settings
from tierq_shared.store import controls
from tierq_shared.store.connection import Store
from tierq_workers.permits.history import History

EVERY_S = 1.0

_LOOKING_SHARE = 4
"""A look that takes long is followed by a pause four times as long: watching must not be what slows the store."""

_END = ("q", "Q")


@click.command("top")
@click.option("--once", is_flag=True, help="Prints one frame, after a second of looking, and ends.")
@click.option("--json", "as_json", is_flag=True, help="Prints one JSON object, after a second of looking, and ends.")
def command(*, once: bool, as_json: bool) -> None:
    """Watch tiers, deployments, running batches and operators' actions, until q or Ctrl-C.

    It only reads, from indexes, so it may run beside any load.
    """
    settings = find_settings(None)
    console = wide_console()
    with stoppable(), open_store(settings) as store, _history(settings, store) as (history, why_unknown):
        watcher = Watcher(settings, store, history, why_unknown)
        if once or as_json or not console.is_terminal:
            _print(_second_look(watcher), console, as_json=as_json)
        else:
            _watch(watcher, console)


@contextmanager
def _history(settings: Settings, store: Store) -> Iterator[tuple[History | None, str]]:
    """What tells of deployments; without it, why there is none."""
    if settings.state_url is None:
        yield None, "no state Redis is configured, so each worker keeps limits and breakers to itself"
        return
    try:
        history = History(settings.state_url.get_secret_value(), settings, lambda: controls.current(store))
    except ValueError:
        yield None, "state_url is no URL of a Redis"
        return
    try:
        yield history, ""
    finally:
        history.close()


def _second_look(watcher: Watcher) -> Look:
    """How fast tasks end takes two looks to be known."""
    watcher.look()
    time.sleep(EVERY_S)
    return watcher.look()


def _print(look: Look, console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(look.json(), ensure_ascii=False))
    else:
        console.print(frame(look, console.width), highlight=False)


def _watch(watcher: Watcher, console: Console) -> None:
    shown = frame(watcher.look(), console.width, console.height)
    with keys() as wait, Live(shown, console=console, screen=True, auto_refresh=False) as live:
        pause_s = EVERY_S
        while wait(pause_s) not in _END:
            began = time.monotonic()
            shown = _next_frame(watcher, console, shown)
            live.update(shown, refresh=True)
            pause_s = max(EVERY_S, _LOOKING_SHARE * (time.monotonic() - began))


def _next_frame(watcher: Watcher, console: Console, before: Group) -> Group:
    """The next frame; where the store cannot be read, the last one with a word on it."""
    try:
        return frame(watcher.look(), console.width, console.height)
    except StoreError as error:
        return Group(Text(str(error), style="bold red", no_wrap=True, overflow="ellipsis"), *before.renderables[1:])
