"""`tierq webhooks`: what endpoints were told of, once more what they were not, and a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from sqlalchemy import Connection

from tierq.client import find_settings
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.entry import OK, SOME_FAILED
from tierq_console.status_view import wide_console
from tierq_console.webhooks_view import deliveries_table, delivery_json
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, MissingExtra, SchemaMismatch
from tierq_shared.store import actions, schema, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.webhooks import Delivery
from tierq_shared.webhooks import Endpoint, read_endpoints

if TYPE_CHECKING:
    from tierq_console.webhook_testing import Tried

_SHOWN = 20


@click.group("webhooks", invoke_without_command=True)
@click.option("--limit", type=click.IntRange(min=1), default=_SHOWN, show_default=True, help="Deliveries to list.")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
@click.pass_context
def command(context: click.Context, limit: int, *, as_json: bool) -> None:
    """List what the endpoints of [[webhooks]] were told of, the newest first, and what came back.

    \b
      tierq webhooks
      tierq webhooks test                    is the endpoint there, and does it take our signature?
      tierq webhooks retry --failed          once it is mended
    """
    if context.invoked_subcommand is not None:
        return
    with stoppable(), _opened() as store, store.reading() as connection:
        found = webhooks.recent(connection, limit)
    if as_json:
        click.echo(json.dumps([delivery_json(one) for one in found], ensure_ascii=False))
    elif found:
        wide_console().print(deliveries_table(found), highlight=False)
    else:
        click.echo("no endpoint was told of anything yet; `tierq webhooks test` sends each one a test")


@command.command("retry")
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--failed", is_flag=True, help="Everything that was given up.")
def retry_command(id_: str | None, *, failed: bool) -> None:
    """Send what was not delivered again, at once: the message with this ID, or all that was given up.

    The first digits of an id are enough. What was given up has all its tries before it again. Receivers tell a message
    by its id, which stays the same.
    """
    if failed == (id_ is not None):
        raise click.UsageError("name one ID, or give --failed")
    with stoppable(), _opened() as store:
        count = _retry_failed(store) if id_ is None else _retry_one(store, id_)
    messages = "1 message is" if count == 1 else f"{count:,} messages are"
    click.echo(f"{messages} sent again by the next worker that looks")


@command.command("test")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
@click.pass_context
def test_command(context: click.Context, *, as_json: bool) -> None:
    """Send a `tierq.test` event to each endpoint now, from this machine, and say what came back.

    It is signed like any other and not kept. Exit 1 where an endpoint did not answer with 2xx.
    """
    endpoints = read_endpoints(configuration.load(configuration.find_file()).webhooks)
    if not endpoints:
        raise ConfigurationError("no [[webhooks]] are configured here: add one to tierq.toml")
    with stoppable():
        tried = _try(endpoints)
    click.echo(json.dumps([one.json() for one in tried]) if as_json else "\n".join(map(str, tried)))
    context.exit(OK if all(one.is_well for one in tried) else SOME_FAILED)


def _try(endpoints: Sequence[Endpoint]) -> list[Tried]:
    try:
        from tierq_console.webhook_testing import try_all
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tierq"):
            raise
        raise MissingExtra(f"a test needs {error.name}: pip install 'tierq[workers]'") from None
    return asyncio.run(try_all(endpoints))


@contextmanager
def _opened() -> Iterator[Store]:
    with open_store(find_settings(None)) as store:
        if not schema.has(store, webhooks.SINCE):
            raise SchemaMismatch(f"webhooks need tables at version {webhooks.SINCE} or later: run `tierq migrate`")
        yield store


def _retry_failed(store: Store) -> int:
    def work(connection: Connection) -> int:
        if count := webhooks.send_failed_again(connection):
            actions.record(connection, "webhooks retry", "failed", {"messages": count})
        return count

    total = 0
    while count := store.write(work):
        total += count
    return total


def _retry_one(store: Store, id_: str) -> int:
    found = _find(store, id_)

    def work(connection: Connection) -> bool:
        is_sent = webhooks.send_again(connection, found.id)
        if is_sent:
            actions.record(connection, "webhooks retry", found.id, {"event": found.event})
        return is_sent

    if not store.write(work):
        raise click.UsageError(f"{found.id} was delivered: there is nothing to send again")
    return 1


def _find(store: Store, id_: str) -> Delivery:
    with store.reading() as connection:
        found = webhooks.beginning_with(connection, id_.rstrip("…").lower(), limit=2)
    if len(found) == 1:
        return found[0]
    which = "more than one message has" if found else "no message has"
    raise click.UsageError(f"{which} an id that begins with {id_!r}: `tierq webhooks` lists them")
