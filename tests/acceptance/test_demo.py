"""`tierq demo`, as a new user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(180)
def test_the_demo_ends_with_a_report_and_everything_stopped(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    demo = subprocess.run(
        [sys.executable, "-m", "tierq_console", "demo"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert demo.returncode == 0, demo.stderr
    assert "A simulator answers in the providers' place" in demo.stdout
    assert "openai goes down" in demo.stdout
    assert "tasks: 350 succeeded" in demo.stdout
    assert "% less" in demo.stdout
    assert int(demo.stdout.split("fail-overs: ")[1].split()[0]) > 0
    assert str(tmp_path) not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout
