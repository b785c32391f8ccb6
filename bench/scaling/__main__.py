"""`python -m bench.scaling`: scales one tier 1 → 4 → 1 under load, counts, and writes docs/explanation/capacity.md.

Real worker processes over PostgreSQL and Redis, a simulated provider that takes its time, and a controller that does
what KEDA does with the same statement. `--quick` makes a smaller wave and only prints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from typing import Any
from urllib.request import urlopen

from sqlalchemy import func, select

from bench import machine, page
from bench.scaling.controller import Controller, Moment, Rule
from bench.scaling.count import Count, count
from bench.scaling.load import Load
from bench.scaling.pool import Pool
from bench.stack import Stack
from bench.workload import MODEL
from tierq import Client
from tierq_shared import configuration
from tierq_shared.settings import Settings
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

SCALED, OTHER = "small", "medium"
LATENCY_MS = 400
IN_FLIGHT = 25
"""Of a worker process: few, so that what a pool can do is its workers × in flight ÷ latency, and not this machine's."""
RULE = Rule(per_worker=400, most=4, hold_s=5.0)
TRICKLE = {SCALED: 10, OTHER: 2}
_CALM_S = 5.0
_LOOK_S = 0.5
_LIMIT_S = 300.0
_LINES = 20

_CONFIG = """
database_url = "{database}"
broker_url = "{broker}"
state_url = "unix://{socket}?db=0"
[metrics]
port = 0
[tiers.small]
chain = ["one"]
max_in_flight = {in_flight}
[tiers.medium]
chain = ["other"]
max_in_flight = {in_flight}
[deployments.one]
provider = "openai"
model = "{model}"
base_url = "{provider}/v1"
[deployments.other]
provider = "openai"
model = "{model}"
base_url = "{provider}/v1"
[[policy]]
tier = "small"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    moments: Sequence[Moment]
    sizes: Sequence[int]
    count: Count
    latencies: dict[bool, list[float]]
    """Seconds that the other tier's tasks took, by whether the scaled one had more than one worker then."""
    workers: dict[str, int]
    """How many worker processes have made calls, by tier."""
    ended_badly: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller wave; prints and writes nothing")
    options = parser.parse_args()
    with Stack() as stack:
        if "PostgreSQL" not in stack.stores:
            sys.exit("bench.scaling: no PostgreSQL answers: set TIERQ_TEST_DATABASE_URL")
        result = run(stack, 2_000 if options.quick else 6_000)
        text = report(result, dict(machine.description(stack.servers())))
    print(text)
    if not options.quick:
        page.write_section("scaling", text)
    if not result.count.is_even or result.ended_badly:
        sys.exit(1)


def run(stack: Stack, wave: int) -> Result:
    """Calm, a wave, and calm again."""
    with stack.simulator(LATENCY_MS) as provider, stack.database("PostgreSQL") as database:
        settings = _configure(stack, database, provider)
        store = Store(database)
        cores = {SCALED: stack.cores.measured, OTHER: stack.cores.other}
        pools = {tier: Pool(partial(_worker, stack, settings, tier, core)) for tier, core in cores.items()}
        controller = Controller(store, SCALED, pools[SCALED], RULE)
        try:
            with Client(settings=settings) as client:
                pools[OTHER].scale(1)
                load = Load(client, TRICKLE)
                _play(controller, load, wave)
            ended_badly = [code for pool in pools.values() for code in pool.close()]
            return _result(store, controller, load.submitted, _served(provider), ended_badly)
        finally:
            for pool in pools.values():
                pool.close()
            store.close()


def _play(controller: Controller, load: Load, wave: int) -> None:
    _watch(controller, _CALM_S)
    load.start()
    _watch(controller, _CALM_S)
    load.submit(SCALED, wave)
    until = time.monotonic() + _LIMIT_S
    while controller.sizes[-1] != 1 or max(controller.sizes) == 1 or controller.moments[-1].ready > RULE.per_worker / 4:
        if time.monotonic() > until:
            raise RuntimeError(f"the wave was not over within {_LIMIT_S:g} s")
        _watch(controller, _LOOK_S)
    _watch(controller, _CALM_S)
    load.finish(_LIMIT_S)


def _watch(controller: Controller, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        controller.step()
        time.sleep(_LOOK_S)


def _configure(stack: Stack, database: str, provider: str) -> Settings:
    stack.flush()
    path = stack.folder / "scaling.toml"
    path.write_text(
        _CONFIG.format(
            database=database,
            broker=stack.broker_url,
            socket=stack.socket,
            provider=provider,
            model=MODEL,
            in_flight=IN_FLIGHT,
        )
    )
    return configuration.load(path, env={})


def _worker(stack: Stack, settings: Settings, tier: str, core: int | None) -> subprocess.Popen[Any]:
    command = [sys.executable, "-m", "bench.worker", str(settings.path), tier]
    with (stack.folder / f"worker-{tier}.log").open("ab") as log:
        return stack.start(command, core, stdout=log, stderr=log)


def _served(provider: str) -> dict[str, int]:
    with urlopen(f"{provider}/_sim/served") as reply:
        return {one["id"]: one["count"] for one in json.load(reply)["served"]}


def _result(store: Store, controller: Controller, submitted: int, served: dict[str, int], badly: list[int]) -> Result:
    by_tier = select(attempts.c.tier, func.count(attempts.c.worker_id.distinct()).label("workers"))
    with store.reading() as connection:
        ended = connection.execute(select(tasks.c.created_at, tasks.c.finished_at).where(tasks.c.tier == OTHER)).all()
        workers = {row.tier: row.workers for row in connection.execute(by_tier.group_by(attempts.c.tier))}
        counted = count(connection, submitted, served)
    busy = _busy(controller.moments)
    latencies: dict[bool, list[float]] = {False: [], True: []}
    for row in ended:
        since = (row.created_at - controller.began).total_seconds()
        latencies[busy[0] <= since <= busy[1]].append((row.finished_at - row.created_at).total_seconds())
    return Result(controller.moments, controller.sizes, counted, latencies, workers, badly)


def _busy(moments: Sequence[Moment]) -> tuple[float, float]:
    """From when until when there was more than one worker."""
    more = [moment.at_s for moment in moments if moment.workers > 1]
    return more[0], more[-1]


def report(result: Result, about: dict[str, str]) -> str:
    """For people, in Markdown."""
    each = IN_FLIGHT / LATENCY_MS * 1000
    head = (
        f"`make capacity` on {about['CPU']}, {about['date']}: PostgreSQL and Redis, a provider that takes "
        f"{LATENCY_MS} ms, {IN_FLIGHT} in flight a worker, so {each:.0f} tasks/s each. The controller goes by the "
        f"statement that KEDA is given: {RULE.per_worker} ready tasks a worker, 1 to {RULE.most} workers, "
        f"and {RULE.hold_s:g} s of patience before a pool shrinks. {TRICKLE[SCALED] * 2} tasks/s come in all along, "
        f"also while workers are told to stop."
    )
    badly = f" Workers ended with {result.ended_badly}." if result.ended_badly else " Every worker ended by itself."
    steps = " → ".join(map(str, result.sizes))
    lines = [
        head,
        f"**{SCALED}: {steps} workers. {result.count}.**{badly}",
        page.table(("second", f"ready on {SCALED}", f"workers of {SCALED}"), _time_line(result.moments)),
        f"Meanwhile {OTHER} was served by {result.workers[OTHER]} worker process, on the other core.",
        page.table((f"{SCALED} has", f"tasks of {OTHER}", "p50 from submission to end", "p95"), _latencies(result)),
    ]
    return "\n\n".join(lines)


def _time_line(moments: Sequence[Moment]) -> list[tuple[str, str, str]]:
    """Each change of the pool, and about as many moments between as make up the rest."""
    every = max(1, len(moments) // _LINES)
    shown = [
        moment
        for number, moment in enumerate(moments)
        if number % every == 0 or moment.workers != moments[number - 1].workers
    ]
    return [(f"{one.at_s:.0f}", f"{one.ready:,}", "█" * one.workers + f" {one.workers}") for one in shown]


def _latencies(result: Result) -> list[tuple[str, ...]]:
    names = {False: "1 worker", True: f"2 to {max(result.sizes)} workers"}
    rows: list[tuple[str, ...]] = []
    for busy, name in names.items():
        found = result.latencies[busy]
        cuts = quantiles(found, n=20)
        rows.append((name, f"{len(found):,}", f"{cuts[9] * 1000:,.0f} ms", f"{cuts[18] * 1000:,.0f} ms"))
    return rows


if __name__ == "__main__":
    main()
