"""A child process: started again with growing pauses, ended with its parent, its log within bounds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from support.waiting import eventually
from tierq_console.embedded import children
from tierq_console.embedded.children import Child

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
READER = "import sys; sys.stdin.read(); print('parent is gone', flush=True)"


def child(folder: Path, code: str) -> Child:
    return Child("one", [sys.executable, "-c", code], folder / "one.log", folder)


def test_it_is_started_once_and_ends_when_told(tmp_path: Path) -> None:
    one = child(tmp_path, SLEEPER)
    one.ensure()
    pid = one.pid
    one.ensure()
    assert one.pid == pid

    one.terminate()
    one.wait(time.monotonic() + 10)
    assert one.pid is None
    assert one.starts == 1


def test_one_that_ends_is_started_again_after_a_pause_that_grows(tmp_path: Path) -> None:
    one = child(tmp_path, "raise SystemExit(3)")
    one.ensure()
    ended = []
    started = time.monotonic()

    def third_start() -> bool:
        ended.append(one.ensure())
        return one.starts == 3

    eventually(third_start, every=0.01)
    assert time.monotonic() - started >= 0.2 + 0.4
    assert len([pid for pid in ended if pid is not None]) == 2
    one.wait(time.monotonic() + 10)


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    one = child(tmp_path, f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}")
    one.ensure()
    eventually(lambda: "up" in (tmp_path / "one.log").read_text())

    one.terminate()
    one.wait(time.monotonic() + 0.2)
    assert one.pid is None


def test_the_end_of_its_stdin_reaches_it(tmp_path: Path) -> None:
    one = child(tmp_path, READER)
    one.ensure()
    assert one._process is not None
    assert one._process.stdin is not None

    one._process.stdin.close()

    eventually(lambda: "parent is gone" in (tmp_path / "one.log").read_text())
    one.wait(time.monotonic() + 10)


def test_its_log_stays_within_bounds_while_it_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_LOG_BYTES", 1_000)
    one = child(tmp_path, "import time\nwhile True:\n    print('x' * 99, flush=True); time.sleep(0.002)")
    log = tmp_path / "one.log"
    one.ensure()
    eventually(lambda: log.stat().st_size > 1_000)

    one.bound_log()

    eventually(lambda: log.stat().st_size > 100)
    assert b"\0" not in log.read_bytes()
    assert (tmp_path / "one.log.1").stat().st_size > 1_000
    one.terminate()
    one.wait(time.monotonic() + 10)
