"""What the pages show works as it stands: README's commands and Python, and every other block that is marked to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from conftest import SiteMaker
from support.servers import Simulator, Site
from tierq_shared.store.connection import Store
from unit.docs.pages import ROOT, Block, blocks

README = ROOT / "README.md"
RUNNABLE = [block for block in blocks("python") if block.runs]

pytestmark = pytest.mark.timeout(240)


BETWEEN = "-- the next block --"
RUNNER = f"""
import sys
for text in sys.argv[1:]:
    exec(compile(text, text, "exec"), {{"__name__": "__main__"}})
    print({BETWEEN!r}, flush=True)
"""
"""Blocks know nothing of each other; one process for all of them spares the imports."""


def run_python(runnable: list[Block], site: Site) -> dict[str, str]:
    """Runs blocks one after the other; what each printed, by its id."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *(block.text for block in runnable)],
        cwd=site.folder,
        env={**os.environ, "TIERQ_CONFIG": str(site.config)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(f"{BETWEEN}\n")
    return {block.id: told for block, told in zip(runnable, printed, strict=False)}


def test_all_marked_python_runs(site: Site) -> None:
    site.start_worker("small")
    printed = run_python(RUNNABLE, site)
    assert len(printed) == len(RUNNABLE)
    readme = next(told for place, told in printed.items() if place.startswith("README.md"))
    lines = {key: (label, float(cost)) for key, label, cost in map(str.split, readme.splitlines())}
    assert set(lines) == {"T-1", "T-2"}
    assert all(label in ("billing", "bug", "praise") and cost > 0 for label, cost in lines.values())
    # Submitted twice under one key: one batch.
    again = next(printed[block.id].split() for block in RUNNABLE if "for _ in range(2)" in block.text)
    assert len(again) == 2
    assert len(set(again)) == 1


def test_all_sql_runs_on_both_stores(site_on: SiteMaker) -> None:
    for database in ("sqlite", "postgresql"):
        store = Store(site_on(database).database_url)
        with closing(store), store.reading() as connection:
            for block in blocks("sql"):
                if not block.text.startswith("-- PostgreSQL" if store.is_sqlite else "-- SQLite"):
                    connection.execute(text(block.text)).all()


def test_the_readme_shows_python_that_runs() -> None:
    assert [block for block in blocks("python", [README]) if not block.runs] == []
    assert blocks("python", [README])


def shell(script: str, folder: Path, simulator: Simulator) -> subprocess.CompletedProcess[str]:
    """A script of the pages, in bash, with the simulator in the provider's place."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_", "GEMINI_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("…", "sk-test")],
        cwd=folder,
        env={**env, "PATH": path, "OPENAI_BASE_URL": f"{simulator.url}/v1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_readmes_commands_run_a_file(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (script,) = (block.text for block in blocks("sh", [README]) if "tierq run" in block.text)

    done = shell(script, tmp_path, simulator)

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    labels = json.loads((ROOT / "examples" / "data" / "tickets.labels.json").read_text())
    assert len(rows) == 260
    assert all(row["state"] == "succeeded" and row["output"] in labels for row in rows)
    assert {row["tier"] for row in rows} == {"small"}

    again = shell(script.replace("tierq init --yes\ntierq doctor\n", ""), tmp_path, simulator)

    assert again.returncode == 0, again.stderr
    assert "have ended before" in again.stderr
    assert len(simulator.served()) == 260
