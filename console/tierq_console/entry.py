"""The `tierq` command: finds its subcommands, and turns users' mistakes into messages."""

from __future__ import annotations

import sys

from tierq_shared.errors import TierQError

OK, SOME_FAILED, BAD_INPUT = 0, 1, 2
"""Exit codes: all succeeded, some tasks failed, bad input or configuration. An interrupted command ends with 130."""

INTERRUPTED = 130


def main() -> None:
    """The console script. Without its extra it answers with the line to type."""
    try:
        import click

        from tierq_console.commands import group
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tierq"):
            raise
        print(f"tierq: the command line needs {error.name}: pip install 'tierq[all]'", file=sys.stderr)
        sys.exit(BAD_INPUT)
    try:
        # Not click's own ending: it answers Ctrl-C with the exit code of failed tasks.
        sys.exit(group.main(prog_name="tierq", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TierQError as error:
        print(f"tierq: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
