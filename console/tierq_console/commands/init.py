"""`tierq init`: writes a commented tierq.toml."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tierq_console import starter
from tierq_console.starter import Candidate
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError


@click.command()
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--force", is_flag=True, help="Replace a tierq.toml that is there.")
def command(*, yes: bool, force: bool) -> None:
    """Write a commented tierq.toml into this folder, from the keys in the environment.

    It looks for OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY, and for a server with OpenAI's wire format on
    this machine (ports 11434, 8000, 8080). Nothing is called but that server's list of models.

    \b
      tierq init
      OPENAI_API_KEY=… tierq init --yes
    """
    path = Path.cwd() / configuration.FILE_NAME
    if path.exists() and not force:
        raise ConfigurationError(f"{path} is there already: edit it, or replace it with `tierq init --force`")
    providers, local = starter.providers_found(), starter.local_candidate()
    _say_what_was_found(providers, local)
    text = starter.render(starter.choose(providers, local))
    _confirm(path, text, yes=yes)
    path.write_text(text, encoding="utf-8")
    configuration.load(path, env={})
    click.echo(f"wrote {path}")
    click.echo("next: `tierq doctor` says what works" if providers or local else _missing_hint())


def _say_what_was_found(providers: list[str], local: Candidate | None) -> None:
    for provider, variable in configuration.KEY_VARIABLES.items():
        click.echo(f"  {'✓' if provider in providers else '–'} {variable}")
    if local is not None:
        click.echo(f"  ✓ {local.model} at {local.base_url}")
    else:
        ports = ", ".join(map(str, starter.LOCAL_PORTS))
        click.echo(f"  – no server with OpenAI's wire format on 127.0.0.1 (ports {ports})")


def _confirm(path: Path, text: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("nobody can be asked here: pass --yes to write the file")
    click.echo(f"\n{text}")
    click.confirm(f"Write this to {path}?", default=True, abort=True)


def _missing_hint() -> str:
    return (
        "no key was found, so the file names one OpenAI deployment: set OPENAI_API_KEY, or put your own deployments "
        "into the file; `tierq demo` needs no key"
    )
