"""How commands end: a message instead of a traceback on Ctrl-C, and the exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tierq_console.entry import INTERRUPTED
from tierq_console.running import Interrupted


@contextmanager
def stoppable(message: str = "stopped") -> Iterator[None]:
    """Ends the process with 130 on Ctrl-C or TERM, saying what became of the work.

    click would make "Aborted!" and 1 of it, which is the code for failed tasks.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except Interrupted as stop:
        click.echo(f"tierq: {stop}", err=True)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        click.echo(f"tierq: {message}", err=True)
        sys.exit(INTERRUPTED)
