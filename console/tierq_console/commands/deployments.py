"""`tierq deployments`: which deployment may be called, how fast, and what happened to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import click
import redis
from rich.console import Group
from rich.live import Live

from tierq_console.batches import store_if_there
from tierq_console.deployments_view import Seen, exposition
from tierq_console.ending import stoppable
from tierq_console.provenance import mask_url
from tierq_console.stack import running_record, stack_files
from tierq_console.status_view import wide_console
from tierq_shared import configuration
from tierq_shared.checks import did_you_mean
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings
from tierq_shared.store import controls
from tierq_shared.store.controls import NOTHING_SET, Controls
from tierq_workers.permits.history import History

WATCH_EVERY_S = 1.0


@click.command("deployments")
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Looks again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON; with --watch, one object a line.")
@click.option("--prometheus", is_flag=True, help="Prints Prometheus's text format.")
def command(name: str | None, *, watch: bool, as_json: bool, prometheus: bool) -> None:
    """Show circuit breakers, rate limits and rests of all deployments, or of one NAME with its history.

    \b
      tierq deployments --watch
      tierq deployments mini
      tierq deployments --prometheus > tierq.prom
    """
    if prometheus and (watch or as_json):
        raise click.UsageError("--prometheus goes with neither --watch nor --json")
    settings = _settings()
    names = _names(settings, name)
    with stoppable(), _now_set(settings) as now_set, _history(settings, now_set) as history:
        if prometheus:
            click.echo(exposition(history.report(names)), nl=False)
        elif watch:
            _watch(history, names, name, as_json=as_json)
        else:
            _print(_look(history, names, name), as_json=as_json)


def _settings() -> Settings:
    """The configuration, with the URLs of the embedded stack where one runs here."""
    settings = configuration.load(configuration.find_file())
    if settings.state_url is not None:
        return settings
    if settings.database_url is not None:
        raise ConfigurationError(
            "no state Redis is configured, so limits and breakers are each worker's own and nobody can see them: name "
            "one in TIERQ_STATE_URL or state_url, for the workers too"
        )
    if running_record(stack_files(settings)) is None:
        raise ConfigurationError(
            "no state Redis is configured, and no embedded stack runs here: set TIERQ_STATE_URL (or state_url in "
            "tierq.toml), or start `tierq up` in another terminal"
        )
    return configuration.with_embedded_urls(settings)


def _names(settings: Settings, name: str | None) -> list[str]:
    if not settings.deployments:
        raise ConfigurationError("no deployment is configured here: `tierq init` writes a tierq.toml with some")
    if name is None:
        return list(settings.deployments)
    if name not in settings.deployments:
        raise ConfigurationError(f"no deployment is named {name!r}{did_you_mean(name, settings.deployments)}")
    return [name]


@contextmanager
def _now_set(settings: Settings) -> Iterator[Callable[[], Controls]]:
    """Reads what operators have set, as far as the store can be read."""
    with store_if_there(settings) as store:
        yield lambda: controls.current(store) if store is not None else NOTHING_SET


@contextmanager
def _history(settings: Settings, now_set: Callable[[], Controls]) -> Iterator[History]:
    url = settings.state_url.get_secret_value() if settings.state_url else ""
    try:
        history = History(url, settings, now_set)
    except ValueError:
        raise ConfigurationError(
            f"state_url: {mask_url(url)!r} is no URL of a Redis: write redis://host:6379/0 or unix:///path?db=0"
        ) from None
    try:
        with closing(history):
            yield history
    except redis.RedisError as error:
        raise ConfigurationError(
            f"the state Redis {mask_url(url)} cannot be read ({type(error).__name__}): is it up, and TIERQ_STATE_URL "
            "or state_url right? Meanwhile each worker keeps its own limits and breakers"
        ) from None


def _look(history: History, names: list[str], name: str | None) -> Seen:
    return Seen(history.report(names), history.events(name) if name else None)


def _print(seen: Seen, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(seen.json(), ensure_ascii=False))
    else:
        wide_console().print(Group(*seen.tables()), highlight=False)


def _watch(history: History, names: list[str], name: str | None, *, as_json: bool) -> None:
    console = wide_console()
    if as_json or not console.is_terminal:
        while True:
            _print(_look(history, names, name), as_json=as_json)
            threading.Event().wait(WATCH_EVERY_S)
    with Live(console=console) as live:
        while True:
            live.update(Group(*_look(history, names, name).tables()))
            threading.Event().wait(WATCH_EVERY_S)
