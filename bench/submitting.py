"""submit_many: tasks a second of one producer process

Tasks of 2 KB from a generator, checked, decided, written and published; the producer is alone on its core. Memory is
what the process grows by from 10,000 streamed tasks on, to the most that it has until the last one.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.report import Figure, Samples
from bench.stack import Stack

BARS = {"SQLite": 5_000.0, "PostgreSQL": 8_000.0}
GROWTH_MB = 20.0
_LIMIT_S = 120.0


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """Each store without keys, which also shows its memory, and with keys."""
    count, many, rounds = (10_000, 20_000, 1) if quick else (50_000, 100_000, 3)
    figures = []
    for store in stack.stores:
        streamed = [submit(stack, store, many) for _ in range(rounds)]
        keyed = [submit(stack, store, count, "--keyed") for _ in range(rounds)]
        figures += [
            _rate(f"{store}, {many:,} without keys", BARS[store], streamed),
            _rate(f"{store}, {count:,} with keys", BARS[store], keyed),
            _growth(store, many, streamed),
        ]
    return figures


def submit(stack: Stack, store: str, count: int, *options: str) -> dict[str, float]:
    """One producer process on the measured core, into a database of its own."""
    with stack.database(store) as url:
        settings = stack.configure(url, "http://127.0.0.1:9")
        command = [sys.executable, "-m", "bench.producer", str(settings.path), str(count), *options]
        process = stack.start(command, stack.cores.measured, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(stack.output_of(process, _LIMIT_S))
        return found


def _rate(name: str, bar: float, found: list[dict[str, float]]) -> Figure:
    cpu = Samples([one["cpu_ms"] for one in found]).median
    rates = Samples([one["rate"] for one in found])
    return Figure(f"submit_many: {name}", "tasks/s", rates, at_least=bar, note=f"{cpu:.3f} ms of CPU a task")


def _growth(store: str, count: int, found: list[dict[str, float]]) -> Figure:
    growth = Samples([one["growth_mb"] for one in found])
    return Figure(f"Memory growth, 10,000 to {count:,} tasks, {store}", "MB", growth, at_most=GROWTH_MB)
