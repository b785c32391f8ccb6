"""One child process of the supervisor: started, restarted with growing pauses, its log kept within bounds."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger("tierq.stack")

MAX_LOG_BYTES = 5_000_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0
_STEADY_AFTER_S = 60.0
"""A child that ran for this long was healthy: what ended it counts as a first fault again."""


class Child:
    """A process that shall run for as long as the supervisor does. Its stdin is a pipe whose end tells it to end."""

    def __init__(
        self, name: str, command: Sequence[str], log_file: Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = list(command)
        self._log_file = log_file
        self._cwd = cwd
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._faults = 0
        self._due_at = 0.0

    @property
    def pid(self) -> int | None:
        """The running process; None where there is none just now."""
        return self._process.pid if self._process else None

    def ensure(self) -> int | None:
        """Starts the process where it does not run and its pause is over; the pid of one that has just ended."""
        if self._process is not None and self._process.poll() is None:
            return None
        ended = self._note_end() if self._process is not None else None
        if ended is None and time.monotonic() >= self._due_at:
            self._start()
        return ended

    def bound_log(self) -> None:
        """Keeps the log and one older piece. The child appends, so it goes on at the start of what was emptied."""
        with contextlib.suppress(FileNotFoundError):
            if self._log_file.stat().st_size > MAX_LOG_BYTES:
                shutil.copyfile(self._log_file, self._log_file.with_suffix(".log.1"))
                os.truncate(self._log_file, 0)

    def terminate(self) -> None:
        """Asks the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, until: float) -> None:
        """Waits for the end until a moment of the monotonic clock, then enforces it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s (pid %d) did not end in time and is killed", self.name, self._process.pid)
            self._process.kill()
            self._process.wait()
        self._close()

    def _start(self) -> None:
        self.starts += 1
        self._started_at = time.monotonic()
        with open_log(self._log_file) as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command line
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self._cwd,
                env=self._env,
            )
        log.info("%s started (pid %d)", self.name, self._process.pid)

    def _note_end(self) -> int | None:
        process = self._process
        if process is None:
            return None
        if time.monotonic() - self._started_at > _STEADY_AFTER_S:
            self._faults = 0
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._faults)
        self._faults += 1
        self._due_at = time.monotonic() + pause
        log.warning(
            "%s (pid %d) ended with %s and is started again in %.1f s",
            self.name,
            process.pid,
            process.returncode,
            pause,
        )
        self._close()
        return process.pid

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def open_log(path: Path) -> BinaryIO:
    """A log file to append to, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
