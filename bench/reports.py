"""`tierq report` on a million calls

A made-up ledger of a month (see `ledger.py`), read by `tierq report` as a process of its own: its start, its queries,
the bootstrap of the saving, and what it prints or writes. `python -m bench.reports` measures it alone. PostgreSQL's own
CPU is not in the figures of the process; two cores share it with whatever else runs.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import ledger
from bench.machine import pin
from bench.report import Figure, Samples, Section, line, section_text
from bench.stack import ROOT, Stack
from tierq_shared.store.connection import Store

PAGE = Path(__file__).with_name("README.md")
CALLS = 1_000_000
BARS_S = {"PostgreSQL": 3.0, "SQLite": 5.0}
_WAYS = {"terminal": [], "JSON": ["--json"], "page and JSON": ["--html", "report.html", "--json"]}
_LIMIT_S = 120.0


def main() -> None:
    """Measures this section alone, and puts it on the page in the place of its last one."""
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls, and the page is left as it is")
    options = parser.parse_args()
    with Stack() as stack:
        section = Section(inspect.getdoc(sys.modules[__name__]) or "", measure(stack, quick=options.quick))
    for figure in section.figures:
        print(line(figure), flush=True)
    if not options.quick:
        _write(section)


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """Store by store, each filled anew."""
    calls, times = (50_000, 1) if quick else (CALLS, 3)
    return [one for store in stack.stores for one in _measured(stack, store, calls, times)]


def _measured(stack: Stack, store: str, calls: int, times: int) -> list[Figure]:
    with stack.database(store) as url, tempfile.TemporaryDirectory(prefix="tierq-report-") as name:
        folder = Path(name)
        _fill(url, calls)
        (folder / "tierq.toml").write_text(f'database_url = "{url}"\n{ledger.TOML}')
        figures = [_figure(stack, store, way, folder, times) for way in _WAYS]
        weight = (folder / "report.html").stat().st_size / 1000
        return [*figures, Figure(f"{store}, weight of the page", "KB", [weight])]


def _figure(stack: Stack, store: str, way: str, folder: Path, times: int) -> Figure:
    taken = [_run(stack, folder, _WAYS[way]) for _ in range(times)]
    note = f"{_median_cpu(taken):.1f} s of CPU in the process; the machine's load was {os.getloadavg()[0]:.1f}"
    bar = None if way == "page and JSON" else BARS_S[store]
    return Figure(f"{store}, {way}", "s", Samples([wall for wall, _ in taken]), at_most=bar, note=note)


def _fill(url: str, calls: int) -> None:
    """With statistics on PostgreSQL, where autovacuum makes them by itself within minutes. SQLite gets none."""
    store = Store(url)
    ledger.fill(store, calls)
    if not store.is_sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
    store.close()


def _run(stack: Stack, folder: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds on the wall and of CPU that one report took."""
    before, began = _cpu(), time.monotonic()
    command = [sys.executable, "-m", "tierq_console", "report", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=_env(), stdout=subprocess.PIPE, text=True)
    pin(process.pid, stack.cores.measured)
    output = stack.output_of(process, _LIMIT_S)
    if "--json" in arguments:
        json.loads(output)
    return time.monotonic() - began, _cpu() - before


def _median_cpu(taken: list[tuple[float, float]]) -> float:
    return Samples([cpu for _, cpu in taken]).median


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _env() -> dict[str, str]:
    hidden = ("TIERQ_DATABASE_URL", "TIERQ_BROKER_URL", "TIERQ_STATE_URL", "TIERQ_CONFIG")
    rooms = os.pathsep.join(str(ROOT / room) for room in ("shared", "producer", "workers", "insight", "console"))
    path = os.pathsep.join(filter(None, (rooms, os.environ.get("PYTHONPATH"))))
    return {**{name: value for name, value in os.environ.items() if name not in hidden}, "PYTHONPATH": path}


def _write(section: Section) -> None:
    """Puts the section in the place of its last one, else at the page's end."""
    heading = f"## {section.title}\n"
    before, _, after = PAGE.read_text().partition(heading)
    _, mark, rest = after.partition("\n## ")
    PAGE.write_text(f"{before.rstrip()}\n\n{section_text(section).strip()}\n{mark}{rest}")


if __name__ == "__main__":
    main()
