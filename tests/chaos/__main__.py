"""`python -m chaos`: breaks things on purpose over every store and broker, and prints the reckoning of each run."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import chaos.scenarios  # noqa: F401  # enters the scenarios into the registry
from chaos import table
from chaos.ground import Result, run
from chaos.page import write_section
from chaos.registry import BROKERS, SCENARIOS, STORES, Scenario, Shape
from support.servers import amqp_url


def main() -> int:
    options = _options()
    # So that `kill` and `timeout` leave no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.list:
        for one in SCENARIOS.values():
            print(f"{one.name:24} {one.about}")
        return 0
    print(f"seed {options.seed}\n{table.head()}", flush=True)
    results = [_played(scenario, shape, options) for scenario, shape in _matrix(options)]
    if not (options.no_page or options.quick or options.only or options.store or options.broker):
        write_section("reckoning", table.section(results, options.seed))
    return 1 if any(result.findings for result in results) else 0


def _played(scenario: Scenario, shape: Shape, options: argparse.Namespace) -> Result:
    tasks = scenario.quick_tasks if options.quick else scenario.tasks
    folder = Path(tempfile.mkdtemp(prefix="tierq-chaos-"))
    result = run(scenario, shape, folder, seed=options.seed, tasks=tasks)
    print(table.row(result), flush=True)
    for finding in result.findings:
        print(f"  NOT AS PROMISED: {finding} (logs in {folder})", flush=True)
    if not result.findings:
        shutil.rmtree(folder)
    return result


def _matrix(options: argparse.Namespace) -> list[tuple[Scenario, Shape]]:
    brokers = BROKERS if amqp_url() else ("redis",)
    if brokers != BROKERS:
        print("no RabbitMQ answers, so it is left out: set TIERQ_TEST_AMQP_URL")
    return [
        (scenario, shape)
        for scenario in SCENARIOS.values()
        for shape in scenario.shapes
        if shape.broker in brokers
        if options.only in (None, scenario.name)
        if options.store in (None, shape.store)
        if options.broker in (None, shape.broker)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="the scenarios, and nothing else")
    parser.add_argument("--only", choices=SCENARIOS, metavar="NAME", help="one scenario")
    parser.add_argument("--store", choices=STORES)
    parser.add_argument("--broker", choices=BROKERS)
    parser.add_argument("--quick", action="store_true", help="small counts")
    parser.add_argument("--no-page", action="store_true", help="print only; a part of the matrix never writes")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
