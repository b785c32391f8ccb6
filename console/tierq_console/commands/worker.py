"""`tierq worker`: serves one tier."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from tierq_console.embedded import parts
from tierq_console.parent import end_with_parent
from tierq_console.stack import attached_stack
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_SHUTDOWN_MARGIN_S = 15.0


@click.command()
@click.argument("tier")
@click.option("--loglevel", type=click.Choice(_LEVELS, case_sensitive=False), default="WARNING", show_default=True)
@click.option("--settings", "file", type=click.Path(path_type=Path), hidden=True)
@click.option("--exit-with-parent", is_flag=True, hidden=True)
def command(tier: str, loglevel: str, file: Path | None, *, exit_with_parent: bool) -> None:
    """Serve one tier until TERM or Ctrl-C: calls under way are finished within `worker.grace`, the rest goes back.

    The configuration is the nearest tierq.toml, with TIERQ_DATABASE_URL, TIERQ_BROKER_URL and TIERQ_STATE_URL above
    it. Start as many as you like, on as many machines as you like.

    \b
      tierq worker small
      TIERQ_DATABASE_URL=postgresql://db/app TIERQ_BROKER_URL=redis://redis/0 tierq worker large
    """
    from tierq_workers.pool import run_worker

    with ExitStack() as cleanup:
        settings = parts.read_settings(file) if file else configuration.load(configuration.find_file())
        _refuse_unknown(tier, settings)
        if settings.database_url is None:
            settings = cleanup.enter_context(attached_stack(settings))
        if exit_with_parent:
            end_with_parent(settings.worker.grace + _SHUTDOWN_MARGIN_S)
        run_worker(settings, tier, loglevel=loglevel.upper())


def _refuse_unknown(tier: str, settings: Settings) -> None:
    from tierq_shared.checks import did_you_mean

    if not settings.tiers:
        raise ConfigurationError("no tierq.toml with tiers was found here or above: `tierq init` writes one")
    if tier not in settings.tiers:
        names = ", ".join(settings.tiers)
        raise ConfigurationError(
            f"there is no tier {tier!r}{did_you_mean(tier, settings.tiers)}; the tiers are {names}"
        )
