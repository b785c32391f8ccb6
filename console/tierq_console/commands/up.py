"""`tierq up`: keeps the embedded stack running."""

from __future__ import annotations

import time

import click

from tierq_console import flower_access
from tierq_console.embedded.files import StackFiles
from tierq_console.embedded.record import StackRecord
from tierq_console.stack import running_record, running_stack, stack_files
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, MissingExtra
from tierq_shared.settings import Settings

_LOOK_EVERY_S = 0.5


@click.command()
@click.option("--flower/--no-flower", default=None, help="Serve Flower on loopback.  [default: where it is installed]")
def command(*, flower: bool | None) -> None:
    """Keep the embedded stack of this folder running until Ctrl-C: store, broker, a worker a tier, and Flower.

    Backend apps and other `tierq` commands beside the same tierq.toml use it meanwhile. Flower asks for the user
    `tierq` and the password in TIERQ_FLOWER_PASSWORD; without one, a password is made, kept in .tierq/ and shown.

    \b
      tierq up
      TIERQ_FLOWER_PASSWORD=… tierq up
      tierq up --no-flower
    """
    settings = configuration.load(configuration.find_file())
    if settings.database_url is not None:
        raise ConfigurationError(
            "a database is configured, so there is no embedded stack to keep up: start `tierq worker TIER` for each "
            "tier and `tierq flower`, or see docker-compose.yml"
        )
    if flower and not flower_access.is_installed():
        raise MissingExtra("Flower is not installed: pip install 'tierq[flower]'")
    wanted = flower_access.is_installed() if flower is None else flower
    files = stack_files(settings)
    with running_stack(settings, notify=click.echo, flower=wanted):
        _show(files, settings, with_flower=wanted)
        try:
            _watch(files)
        except KeyboardInterrupt:
            click.echo("stopping, unless another command still uses the stack")


def _show(files: StackFiles, settings: Settings, *, with_flower: bool) -> None:
    record = _until_flower(files) if with_flower else running_record(files)
    children = record.children if record else {}
    for name, tier in settings.tiers.items():
        child = children.get(f"worker-{name}")
        click.echo(f"  {name:<10} worker {child.pid if child else '–'}   {' → '.join(tier.chain)}")
    if with_flower and record is not None and record.flower_port:
        click.echo(f"  Flower     http://127.0.0.1:{record.flower_port}")
        click.echo(f"             user {flower_access.USER}, password {flower_access.read_password(files)}")
    click.echo(f"  files      {files.root}")
    click.echo("ready. Ctrl-C stops it.")


def _until_flower(files: StackFiles, timeout_s: float = 10.0) -> StackRecord | None:
    """What the stack says, once it has started Flower."""
    deadline = time.monotonic() + timeout_s
    while True:
        record = running_record(files)
        if (record is not None and record.flower_port) or time.monotonic() > deadline:
            return record
        time.sleep(0.05)


def _watch(files: StackFiles) -> None:
    """Tells of every part that had to be started again."""
    seen = running_record(files)
    while True:
        time.sleep(_LOOK_EVERY_S)
        record = running_record(files)
        if record is None:
            continue
        for name, child in record.children.items():
            before = seen.children.get(name) if seen is not None else None
            if before is not None and child.pid is not None and before.pid not in (None, child.pid):
                click.echo(f"{name} ended and was started again (process {child.pid}); see {files.log(name)}")
        seen = _latest_pids(seen, record)


def _latest_pids(seen: StackRecord | None, record: StackRecord) -> StackRecord:
    """The record, where a part that is down just now keeps the process it had."""
    children = {
        name: seen.children[name] if child.pid is None and seen is not None and name in seen.children else child
        for name, child in record.children.items()
    }
    return record.model_copy(update={"children": children})
