"""One producer process: `python -m bench.producer CONFIG TASKS [--keyed]` submits a batch, prints one JSON object."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from bench import workload
from bench.machine import cpu_seconds, rss_mb
from tierq import Client, Task
from tierq_shared import configuration

FIRST_LOOK = 10_000
"""Tasks after which the memory is looked at first, and then again each time."""

_WARM_UP = 1_000


class Watched:
    """Tasks as they are streamed, and the memory of the process while they are."""

    def __init__(self, tasks: Iterator[Task[str]]) -> None:
        self._tasks = tasks
        self.rss: list[float] = []

    def __iter__(self) -> Iterator[Task[str]]:
        for number, task in enumerate(self._tasks, 1):
            yield task
            if number % FIRST_LOOK == 0:
                self.rss.append(rss_mb())

    @property
    def growth_mb(self) -> float:
        """From the first look to the most that was seen."""
        return max(self.rss) - self.rss[0] if self.rss else 0.0


def main() -> None:
    options = _options()
    with Client(settings=configuration.load(options.config)) as client:
        client.submit_many(workload.tasks(_WARM_UP, keyed=options.keyed))
        watched = Watched(workload.tasks(options.tasks, keyed=options.keyed))
        began, used = time.perf_counter(), cpu_seconds("self")
        client.submit_many(watched)
        seconds, used = time.perf_counter() - began, cpu_seconds("self") - used
        found = {"rate": options.tasks / seconds, "cpu_ms": used / options.tasks * 1000, "growth_mb": watched.growth_mb}
    print(json.dumps(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("tasks", type=int)
    parser.add_argument("--keyed", action="store_true", help="give each task a key of its own")
    return parser.parse_args()


if __name__ == "__main__":
    main()
