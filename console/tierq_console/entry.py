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
        from tierq_console.commands import group
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tierq"):
            raise
        print(f"tierq: the command line needs {error.name}: pip install 'tierq[all]'", file=sys.stderr)
        sys.exit(BAD_INPUT)
    try:
        group.main(prog_name="tierq")
    except TierQError as error:
        print(f"tierq: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
