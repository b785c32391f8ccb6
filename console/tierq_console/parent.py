"""Ends this process when its parent is gone, which closes the pipe on stdin."""

from __future__ import annotations

import os
import signal
import threading


def end_with_parent(patience_s: float) -> None:
    """Sends this process TERM at the end of stdin; where that does not end it within a span, ends it at once."""
    threading.Thread(target=_watch, args=(patience_s,), name="tierq-parent", daemon=True).start()


def _watch(patience_s: float) -> None:
    # os.read rather than sys.stdin: its lock would stall the interpreter's end.
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(patience_s)
    os._exit(1)
