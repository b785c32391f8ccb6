"""The tutorial on routing, walked as it stands: its commands in its order, and its outputs in what they print."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.servers import free_port, running
from support.waiting import eventually
from unit.docs.pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "tutorials" / "route-by-evidence.md"
ELSEWHERE = ("tierq simulator", "tierq up")
"""Commands that stay, in terminals of their own."""
PORT = "8500"
PATIENCE_S = 60.0

pytestmark = pytest.mark.timeout(240)


@dataclass
class Reader:
    """Somebody who follows the page in a copy of the examples, with a port that is free here."""

    clone: Path
    port: int
    terminals: ExitStack

    def types(self, script: str) -> str:
        """What a block in the third terminal prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.clone / "examples" / "evaluation",
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def leaves_running(self, script: str, log: Path) -> None:
        """A block in a terminal of its own, until the test is over; once it says that it is ready."""
        *before, last = script.replace(PORT, str(self.port)).strip().splitlines()
        command = "\n".join(["set -eu", f"cd {self.clone}", *before, f"exec {last}"])
        process = self.terminals.enter_context(running(["bash", "-c", command], log, self.env))
        eventually(lambda: self._is_ready(process, log), PATIENCE_S)

    @property
    def env(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "COLUMNS": "100", "OPENAI_API_KEY": "any"}

    @staticmethod
    def _is_ready(process: subprocess.Popen[bytes], log: Path) -> bool:
        assert process.poll() is None, log.read_text()
        return bool(re.search(r"^(ready\.|listening on)", log.read_text(), re.M))


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    with ExitStack() as terminals:
        one = Reader(folder, free_port(), terminals)
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns(".tierq", "*.out*"))
        config = folder / "examples" / "evaluation" / "tierq.toml"
        config.write_text(config.read_text().replace(PORT, str(one.port)))
        yield one


def test_the_tutorial_runs_as_it_stands_and_saves_what_it_says(tmp_path: Path) -> None:
    page = blocks("sh", [PAGE]) + blocks("text", [PAGE]) + blocks("sql", [PAGE])
    page = [block for block in sorted(page, key=lambda block: block.line) if "make install" not in block.text]
    database = tmp_path / "examples" / "evaluation" / ".tierq" / "tierq.db"
    printed = ""
    with reader(tmp_path) as someone:
        for number, block in enumerate(page):
            if block.language == "text":
                check(block, printed)
            elif block.language == "sql":
                printed = ask(database, block.text)
            elif any(one in block.text for one in ELSEWHERE):
                someone.leaves_running(block.text, tmp_path / f"terminal-{number}.log")
            else:
                printed = someone.types(from_the_clone(block.text))
    check_saving(printed)
    check_page(tmp_path / "examples" / "evaluation" / "report.html")


def from_the_clone(script: str) -> str:
    """The third terminal is in the clone's root until the page says `cd`, and stays in the folder after it."""
    return f"cd ../..\n{script}" if "cd examples" in script or "examples/data" in script else script


def ask(database: Path, statement: str) -> str:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return "\n".join("|".join(map(str, row)) for row in connection.execute(statement))


def check(block: Block, printed: str) -> None:
    """Every line that the page shows was printed, in this order, if with other times, ids and last digits of costs."""
    lines = iter(re.sub(r"\s+", " ", line).strip() for line in printed.splitlines())
    for shown in filter(None, map(str.strip, block.text.splitlines())):
        if shown != "…":
            assert any(pattern(shown).fullmatch(line) for line in lines), f"{block.id}: not printed: {shown}\n{printed}"


def pattern(shown: str) -> re.Pattern[str]:
    """A line of the page, with any number for a count, latency, cost or time, and any id for an id."""
    words = [re.escape(word) for word in shown.split()]
    # Skill is simulated from a seed: how many answers are right is the same everywhere.
    exact = len(words) if shown.startswith("quality") else 5 if shown.startswith("≤") else 0
    return re.compile(" ".join([*words[:exact], *map(any_number, words[exact:])]))


def any_number(word: str) -> str:
    if re.search(r"[0-9a-f]{8}", word) or word.startswith(("derived", "config")):
        return re.sub(r"[0-9a-f]{8,}|\d+", "[0-9a-f]+", word)
    return re.sub(r"\d+((,|\\\.)\d+)*", r"[\\d.,]+", word)


def check_saving(printed: str) -> None:
    """Less than the largest model alone for the same answers, with the evaluation charged."""
    found = re.search(r"([\d.]+)% less; 95 % interval ([\d.]+)% to", printed)
    assert found, printed
    assert 20 < float(found[1]) < 40
    assert float(found[2]) > 10
    assert re.search(r"measuring quality\s+600\s+\$0\.87", printed)
    weeks = [float(cost) for cost in re.findall(r"^[1-4] .*\$(\S+)", printed, re.M)]
    assert weeks == pytest.approx([0.5388, 0.0272, 0.0272, 0.0272], rel=0.02)


def check_page(page: Path) -> None:
    text = page.read_text()
    assert "Saved against gpt-5.6-sol for everything" in text
    assert "<script" not in text
