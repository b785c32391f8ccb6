"""Workers that are killed and come back, as a supervisor of processes would have it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections import deque
from pathlib import Path

from support.servers import Site
from tierq_workers.process import EX_SOFTWARE

TIER = "small"
_TESTS = str(Path(__file__).parents[1])
LOOK_EVERY_S = 0.1
_PATIENCE_S = 60.0
_ENDS_OF_TERM = (0, -signal.SIGTERM)
"""Drained, or still starting: it had nothing then."""


def python_path() -> str:
    """Where the processes of a run find this package."""
    return os.pathsep.join(filter(None, (_TESTS, os.environ.get("PYTHONPATH"))))


class Crew:
    """Keeps a number of workers alive. A successor takes the next environment of ``armed``, then the plain one."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._rng = rng
        self._members: dict[subprocess.Popen[bytes], str] = {}
        """Workers, with their tiers."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._replace_the_dead, name="chaos-crew", daemon=True)
        self.env: dict[str, str] = {}
        """What every worker that starts from now on gets."""
        self.armed: deque[dict[str, str]] = deque()
        self.killed = 0
        self.findings: list[str] = []

    @property
    def size(self) -> int:
        return len(self._members)

    def start(self, count: int) -> None:
        for _ in range(count):
            self.hire()
        if not self._thread.is_alive():
            self._thread.start()

    def hire(self, tier: str = TIER, **env: str) -> subprocess.Popen[bytes]:
        """One more worker, with the next environment that waits, or with one of its own."""
        own = env or (self.armed.popleft() if self.armed else {})
        worker = self._site.start_worker(
            tier, module="chaos.worker", **{"PYTHONPATH": python_path(), **self.env, **own}
        )
        self._members[worker] = tier
        return worker

    def dismiss(self, worker: subprocess.Popen[bytes]) -> None:
        """TERM for one worker, which is to end by itself, be it by its own watchdog."""
        self._members.pop(worker)
        worker.send_signal(signal.SIGTERM)
        try:
            code = worker.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.findings.append(f"a worker did not end within {_PATIENCE_S:.0f} s of TERM")
            worker.kill()
            code = worker.wait()
        if code not in (0, EX_SOFTWARE):
            self.findings.append(f"a worker ended by TERM with {code}")

    def kill_one(self) -> None:
        """Kill -9 of a worker that lives."""
        alive = [worker for worker in self._members if worker.poll() is None]
        if alive:
            self._rng.choice(alive).send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Ends all of them by TERM; one that does not end by itself, or not well, is a finding."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bury_the_dead()
        self._site.stop_workers()
        badly = [worker.returncode for worker in self._members if worker.returncode not in _ENDS_OF_TERM]
        self.findings += [f"a worker ended by TERM with {code}" for code in badly]

    def _replace_the_dead(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for tier in self._bury_the_dead():
                self.hire(tier)

    def _bury_the_dead(self) -> list[str]:
        """Notes how workers ended; the tiers that have one less."""
        dead = [worker for worker in self._members if worker.poll() is not None]
        self.killed += len(dead)
        self.findings += [
            f"a worker that nobody killed ended with {worker.returncode}"
            for worker in dead
            if worker.returncode != -signal.SIGKILL
        ]
        return [self._members.pop(worker) for worker in dead]
