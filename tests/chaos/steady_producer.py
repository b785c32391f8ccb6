"""A backend app of the soak: `python -m chaos.steady_producer CONFIG RATE SECONDS`.

It submits a batch a second, reads the outcomes of each as they come, and prints a line of JSON for each that is over.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from tierq import Batch, Classify, Client, Generate, Task
from tierq_shared import configuration

INTENT = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="Sort the customer's message.")
READERS = 64
"""Batches that are read at once: one reader each, as many as an outage may hold up."""
LONGEST_WAIT_S = 600.0
_SAYING = Lock()


def main() -> None:
    config, rate, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with Client(settings=configuration.load(config)) as client, ThreadPoolExecutor(READERS) as readers:
        began = time.monotonic()
        number = 0
        while (elapsed := time.monotonic() - began) < seconds:
            readers.submit(_read, client.submit_many(tasks(number, rate)), time.monotonic(), rate)
            number += 1
            time.sleep(max(0.0, number - elapsed))


def tasks(batch: int, count: int) -> Iterator[Task[Any]]:
    """Mostly for the cheapest tier; one in ten is for the one above."""
    for number in range(count):
        text = f"Message {batch}-{number}: the app shows an error today " + "and please help " * (number % 20)
        yield Generate(f"Answer this. {text}", tier="medium") if number % 10 == 0 else INTENT(text, key=number)


def _read(batch: Batch[Any], submitted: float, count: int) -> None:
    try:
        states = Counter(str(outcome.state) for outcome in batch.as_completed(LONGEST_WAIT_S))
        said = {"batch": batch.id, "seconds": time.monotonic() - submitted, "submitted": count, "states": dict(states)}
    except Exception as error:  # nobody looks at this thread: what went wrong is said like the rest
        said = {"batch": batch.id, "submitted": count, "error": repr(error)}
    with _SAYING:
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
