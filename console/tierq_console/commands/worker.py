"""`tierq worker`: serves one tier."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import click
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from tierq_console.embedded import parts
from tierq_console.entry import OK, SOME_FAILED
from tierq_console.parent import end_with_parent
from tierq_console.stack import attached_stack
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, MissingExtra, StoreError
from tierq_shared.settings import Settings
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import workers

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("text", "json")
_SHUTDOWN_MARGIN_S = 15.0


@click.command()
@click.argument("tier")
@click.option("--loglevel", type=click.Choice(_LEVELS, case_sensitive=False), default="WARNING", show_default=True)
@click.option(
    "--log-format",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    envvar="TIERQ_LOG_FORMAT",
    help="How the log is written, Celery's lines among it; TIERQ_LOG_FORMAT says it, too.",
)
@click.option("--check", is_flag=True, help="Exit 0 where a worker of this host serves the tier, else 1.")
@click.option("--settings", "file", type=click.Path(path_type=Path), hidden=True)
@click.option("--exit-with-parent", is_flag=True, hidden=True)
@click.pass_context
def command(
    context: click.Context,
    tier: str,
    loglevel: str,
    log_format: str,
    file: Path | None,
    *,
    check: bool,
    exit_with_parent: bool,
) -> None:
    """Serve one tier until TERM or Ctrl-C: calls under way are finished within `worker.grace`, the rest goes back.

    The configuration is the nearest tierq.toml, with TIERQ_DATABASE_URL, TIERQ_BROKER_URL and TIERQ_STATE_URL above
    it. Start as many as you like, on as many machines as you like.

    \b
      tierq worker small
      TIERQ_DATABASE_URL=postgresql://db/app TIERQ_BROKER_URL=redis://redis/0 tierq worker large
      tierq worker small --check                   for a health check: its lease in SQL is looked at
    """
    with ExitStack() as cleanup:
        settings = parts.read_settings(file) if file else configuration.load(configuration.find_file())
        _refuse_unknown(tier, settings)
        if settings.database_url is None:
            settings = cleanup.enter_context(attached_stack(settings))
        if check:
            context.exit(_check(tier, settings))
        if exit_with_parent:
            end_with_parent(settings.worker.grace + _SHUTDOWN_MARGIN_S)
        _run(settings, tier, loglevel.upper(), log_format)


def _run(settings: Settings, tier: str, loglevel: str, log_format: str) -> None:
    try:
        from tierq_workers.pool import run_worker
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tierq"):
            raise
        raise MissingExtra(f"a worker needs {error.name}: pip install 'tierq[workers]'") from None
    run_worker(settings, tier, loglevel=loglevel, log_format=log_format)


def _check(tier: str, settings: Settings) -> int:
    """Whether a worker of this host holds a lease of the tier, as an exit code."""
    live = select(func.count()).where(
        workers.c.tier == tier,
        workers.c.host == socket.gethostname(),
        workers.c.lease_until > now(),
        workers.c.stopped_at.is_(None),
    )
    store = Store(settings.database_url.get_secret_value() if settings.database_url else "")
    try:
        with store.reading() as connection:
            count = connection.execute(live).scalar_one()
    except DBAPIError as error:
        raise StoreError(f"the database cannot be used: {str(error.orig).strip()}") from None
    finally:
        store.close()
    click.echo(f"{count} live worker{'s' if count != 1 else ''} of this host serve{'s' if count == 1 else ''} {tier}")
    return OK if count else SOME_FAILED


def _refuse_unknown(tier: str, settings: Settings) -> None:
    from tierq_shared.checks import did_you_mean

    if not settings.tiers:
        raise ConfigurationError("no tierq.toml with tiers was found here or above: `tierq init` writes one")
    if tier not in settings.tiers:
        names = ", ".join(settings.tiers)
        raise ConfigurationError(
            f"there is no tier {tier!r}{did_you_mean(tier, settings.tiers)}; the tiers are {names}"
        )
