"""One interactive task at a time on an idle stack

From `submit` to the return of `wait`, less the simulator's own latency: over 200 rounds with a latency of 0 ms, and
over 100 with one of 100 ms. The producer and the worker each have a core of their own.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from bench import ours, workload
from bench.report import Figure, Samples
from bench.stack import Stack
from tierq import Client

P50_MS = 25.0
_WARM_UP = 20
_LIMIT_S = 10.0
"""For one task."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds over the provider's own time."""

    p50: float
    p95: float


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """Each store and latency once, then all again."""
    settings = [(0.0, 200), (100.0, 100)]
    rounds = 1 if quick else 3
    found: dict[tuple[str, float], list[Spread]] = {
        (store, latency): [] for store in stack.stores for latency, _ in settings
    }
    for _ in range(rounds):
        for store in stack.stores:
            for latency, count in settings:
                found[store, latency].append(alone(stack, store, latency, count // 4 if quick else count))
    return [figure for (store, latency), spreads in found.items() for figure in _figures(store, latency, spreads)]


def alone(stack: Stack, store: str, latency_ms: float, count: int) -> Spread:
    """One task after the other, each from a client that waits for it."""
    with stack.simulator(latency_ms) as base_url, stack.database(store) as url:
        settings = stack.configure(url, base_url)
        with stack.worker(settings), Client(settings=settings) as client:
            ours.warm_up(client, 100)
            texts = list(workload.texts(_WARM_UP + count))
            taken = [_milliseconds(client, text) - latency_ms for text in texts][_WARM_UP:]
    return Spread(statistics.median(taken), statistics.quantiles(taken, n=20)[-1])


def _milliseconds(client: Client, text: str) -> float:
    began = time.perf_counter()
    client.submit(workload.SPEC(text, urgency="interactive")).wait(timeout=_LIMIT_S).unwrap()
    return (time.perf_counter() - began) * 1000


def _figures(store: str, latency_ms: float, spreads: list[Spread]) -> list[Figure]:
    name = f"Over a provider of {latency_ms:g} ms, {store}"
    return [
        Figure(f"{name}: p50", "ms", Samples([spread.p50 for spread in spreads]), at_most=P50_MS),
        Figure(f"{name}: p95", "ms", Samples([spread.p95 for spread in spreads])),
    ]
