"""A worker whose farewell hangs hands back what it holds, says where it stood, and ends."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import threading
from tierq_workers import pool

class Engine:
    def stop(self):
        print("handed back", flush=True)

pool._end_after(0.1, Engine())
threading.Event().wait(60)
"""


def test_it_hands_back_and_ends_and_says_where_it_stood() -> None:
    process = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=30)
    assert (process.returncode, process.stdout) == (70, "handed back\n")
    assert "could not take its leave" in process.stderr
    assert "most recent call first" in process.stderr
