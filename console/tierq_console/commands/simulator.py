"""`tierq simulator`: serves the providers' wire formats without any model."""

from __future__ import annotations

from pathlib import Path

import click

from tierq_shared.errors import MissingExtra


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free port.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON: models and faults.")
@click.option("--seed", type=int, help="Overrides the configuration's seed.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Where to write the port once it listens.")
@click.option("--served-log", type=click.Path(path_type=Path), help="Append a JSON line for each answered attempt.")
@click.pass_context
def command(context: click.Context, /, **options: object) -> None:
    """Serve the wire formats of OpenAI, Anthropic and Gemini without any model, until TERM or Ctrl-C.

    Point OPENAI_BASE_URL (with /v1), ANTHROPIC_BASE_URL and GOOGLE_GEMINI_BASE_URL at it; any key will do.

    \b
      tierq simulator --port 8500
      tierq simulator --port 8500 --config faults.json
      OPENAI_BASE_URL=http://127.0.0.1:8500/v1 OPENAI_API_KEY=any tierq run …
    """
    try:
        from tierq_simulator.run import main
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the simulator needs {error.name}: pip install 'tierq[embedded]'") from None
    given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    context.exit(main([part for name, value in given.items() for part in (f"--{name}", str(value))]))
