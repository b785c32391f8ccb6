"""The worker processes of one tier: more are started, and those that are too many are told to stop."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0
"""How long a worker may take from TERM to its end: its grace time, and what it has after that."""

_ENDS_OF_TERM = (0, -signal.SIGTERM)
"""Drained, or still starting: it had nothing then."""


class Pool:
    """Starts workers with ``start``; the youngest goes first, by TERM, as Kubernetes stops a pod."""

    def __init__(self, start: Callable[[], subprocess.Popen[Any]]) -> None:
        self._start = start
        self._working: list[subprocess.Popen[Any]] = []
        self._stopping: list[subprocess.Popen[Any]] = []
        self.started = 0

    @property
    def size(self) -> int:
        """Workers that were not told to stop."""
        return len(self._working)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._working]

    def scale(self, size: int) -> None:
        """Starts or stops as many as it takes; waits for none of them."""
        while self.size < size:
            self._working.append(self._start())
            self.started += 1
        while self.size > size:
            worker = self._working.pop()
            worker.send_signal(signal.SIGTERM)
            self._stopping.append(worker)

    def close(self) -> list[int]:
        """Stops all; the exit codes of those that did not end well, by themselves and in time."""
        self.scale(0)
        codes = [_end(worker) for worker in self._stopping]
        self._stopping.clear()
        return [code for code in codes if code not in _ENDS_OF_TERM]


def _end(worker: subprocess.Popen[Any]) -> int:
    try:
        return worker.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()
