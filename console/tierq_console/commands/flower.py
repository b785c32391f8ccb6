"""`tierq flower`: the Flower page of the configured broker."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tierq_console.embedded import parts
from tierq_console.flower_access import PASSWORD_VARIABLE, USER
from tierq_console.parent import end_with_parent
from tierq_shared import configuration, environment
from tierq_shared.errors import ConfigurationError, MissingExtra
from tierq_shared.queues import make_app
from tierq_shared.settings import Settings

_PATIENCE_S = 5.0
_COLUMNS = "args,state,result,received,runtime,worker"
"""A chunk's readable title is its `args`: as its name it would make a metric of its own for every chunk."""


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: flower.port of the configuration.")
@click.option("--settings", "file", type=click.Path(path_type=Path), hidden=True)
@click.option("--exit-with-parent", is_flag=True, hidden=True)
def command(address: str, port: int | None, file: Path | None, *, exit_with_parent: bool) -> None:
    """Serve Flower: the workers, the chunks in progress, and how long each tier's queue is.

    It asks for the user `tierq` and the password in TIERQ_FLOWER_PASSWORD. It is read-only. Its `/metrics` and
    `/healthcheck` answer without a password: keep it on loopback, or behind a proxy that closes them.

    `tierq up` starts it for the embedded stack; this command is for a broker of your own.

    \b
      TIERQ_FLOWER_PASSWORD=… TIERQ_BROKER_URL=redis://redis/0 tierq flower
    """
    settings = parts.read_settings(file) if file else configuration.load(configuration.find_file())
    password = _password()
    if exit_with_parent:
        end_with_parent(_PATIENCE_S)
    serve(settings, address, port or settings.flower.port, password)


def serve(settings: Settings, address: str, port: int, password: str) -> None:
    """Serves Flower until TERM.

    Raises:
        MissingExtra: Flower is not installed.
        ConfigurationError: no broker is configured.
    """
    try:
        from flower.options import options
    except ModuleNotFoundError:
        raise MissingExtra("Flower is not installed: pip install 'tierq[flower]'") from None
    app = make_app(settings)
    # Set here rather than by argument: a command line can be read by every user of the machine.
    options.basic_auth = [f"{USER}:{password}"]
    app.start(
        [
            "flower",
            f"--address={address}",
            f"--port={port}",
            f"--max_tasks={settings.flower.max_tasks}",
            f"--tasks_columns={_COLUMNS}",
            "--read_only=true",
        ]
    )


def _password() -> str:
    password = environment.read(PASSWORD_VARIABLE, os.environ)
    os.environ.pop(PASSWORD_VARIABLE, None)
    if password is None:
        raise ConfigurationError(f"Flower needs a password: set {PASSWORD_VARIABLE} or {PASSWORD_VARIABLE}_FILE")
    return password.value
