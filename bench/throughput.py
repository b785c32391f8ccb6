"""Throughput of one worker process on one core, beside two yardsticks measured in turn with it

Classify tasks of 2 KB, the provider at 0 ms, 200 in flight, everything committed. Ratios are those of SQLite, pair by
pair. The bare loop goes through httpx's client on the aiohttp transport, and for comparison straight to the transport,
as TierQ's workers do; one message a task is Celery with threads, a synchronous client and a commit a task.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from bench import one_message_a_task, ours, workload
from bench.machine import cpu_seconds
from bench.report import Figure, Samples
from bench.stack import ROOT, Stack, stopping
from tierq import Client

IN_FLIGHT = 200
_WARM_UP = 200

Rates = tuple[float, float]
"""Tasks a second, CPU milliseconds a task."""


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """Each contender once, then again from the start, so that a busy moment of the machine meets them all."""
    count, few, rounds = (2_000, 600, 1) if quick else (10_000, 2_000, 3)
    with stack.simulator() as base_url:
        contenders: dict[str, Callable[[], Rates]] = {
            f"TierQ, {store}": lambda store=store: tierq(stack, base_url, store, count) for store in stack.stores
        }
        contenders |= {
            "bare loop, httpx.AsyncClient": lambda: bare_loop(stack, base_url, count),
            "bare loop, straight to the transport": lambda: bare_loop(stack, base_url, count, "--straight"),
            "one message a task, SQLite": lambda: one_message(stack, base_url, few),
        }
        results: dict[str, list[Rates]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, run in contenders.items():
                results[name].append(run())
    return _figures(results)


def tierq(stack: Stack, base_url: str, store: str, count: int) -> Rates:
    """One worker process, everything committed."""
    with stack.database(store) as url:
        settings = stack.configure(url, base_url, max_in_flight=IN_FLIGHT)
        with stack.worker(settings) as worker, Client(settings=settings) as client:
            ours.warm_up(client)
            used = cpu_seconds(worker.pid)
            batch = client.submit_many(workload.tasks(count))
            ours.finish(batch, timeout=300)
            used = cpu_seconds(worker.pid) - used
            return count / ours.span(settings, batch.id).seconds, used / count * 1000


def bare_loop(stack: Stack, base_url: str, count: int, *options: str) -> Rates:
    """Yardstick (a)."""
    command = [sys.executable, "-m", "bench.bare_loop", base_url, "--requests", str(count), *options]
    process = stack.start(command, stack.cores.measured, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=300)
    found = json.loads(output)
    return found["rate"], found["cpu_ms"]


def one_message(stack: Stack, base_url: str, count: int) -> Rates:
    """Yardstick (b)."""
    stack.flush()
    database = str(stack.folder / f"one-message-{time.monotonic_ns()}.db")
    engine = one_message_a_task.make_engine(database)
    one_message_a_task.Ticket.metadata.create_all(engine, tables=[one_message_a_task.Ticket.__table__])
    places = {"BENCH_BROKER_URL": stack.broker_url, "BENCH_DATABASE": database, "BENCH_BASE_URL": base_url}
    command = [sys.executable, "-m", "celery", "-A", "bench.one_message_a_task", "worker", "-P", "threads"]
    command += ["-c", str(one_message_a_task.CONCURRENCY), "--without-gossip", "--without-mingle", "-l", "ERROR"]
    log = (stack.folder / "one-message.log").open("ab")
    process = stack.start(
        command, stack.cores.measured, env={**os.environ, **places, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
    )
    with stopping(process):
        _run_messages(stack, engine, 0, _WARM_UP)
        used = cpu_seconds(process.pid)
        seconds = _run_messages(stack, engine, _WARM_UP, count)
        return count / seconds, (cpu_seconds(process.pid) - used) / count * 1000


def _run_messages(stack: Stack, engine: one_message_a_task.Engine, first: int, count: int) -> float:
    one_message_a_task.publish(stack.broker_url, first, count)
    until = time.monotonic() + 120
    while (found := one_message_a_task.finished(engine, first))[0] < count:
        if time.monotonic() > until:
            raise RuntimeError(f"one message a task: {found[0]} of {count} tasks in 120 s")
        time.sleep(0.25)
    return found[1]


def _figures(results: dict[str, list[Rates]]) -> list[Figure]:
    rates = {name: Samples([rate for rate, _ in found]) for name, found in results.items()}
    figures = [
        Figure(f"Throughput: {name}", "tasks/s", samples, note=f"{_cpu(results[name]):.2f} ms of CPU a task")
        for name, samples in rates.items()
    ]
    figures.append(_ratio("TierQ ÷ bare loop", rates, "bare loop, httpx.AsyncClient", 0.6))
    figures.append(_ratio("TierQ ÷ bare loop, straight", rates, "bare loop, straight to the transport", None))
    figures.append(_ratio("TierQ ÷ one message a task", rates, "one message a task, SQLite", 3.0))
    return figures


def _cpu(found: list[Rates]) -> float:
    return Samples([cpu for _, cpu in found]).median


def _ratio(name: str, rates: dict[str, Samples], yardstick: str, bar: float | None) -> Figure:
    ratios = [ours / theirs for ours, theirs in zip(rates["TierQ, SQLite"], rates[yardstick], strict=True)]
    return Figure(name, "×", Samples(ratios), at_least=bar)
