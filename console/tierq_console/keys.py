"""Single keys from a terminal, while something is shown on it."""

from __future__ import annotations

import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Wait = Callable[[float], str]
"""Waits so many seconds, or for a key; the key, or nothing."""


@contextmanager
def keys() -> Iterator[Wait]:
    """Lets keys be read one by one, without Enter and unseen, for as long as the block runs."""
    if not sys.stdin.isatty():
        yield _wait_without_keys
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield _wait
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait(seconds: float) -> str:
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if readable else ""


def _wait_without_keys(seconds: float) -> str:
    threading.Event().wait(seconds)
    return ""
