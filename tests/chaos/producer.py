"""A producer as a process of its own: `python -m chaos.producer FIRST COUNT` submits, and waits for every outcome."""

from __future__ import annotations

import sys

from chaos import clocks

TIMEOUT_S = 80.0
DEADLINE_S = 55.0
"""Less than the clocks are off: whoever went by his own would see it passed at once."""


def main() -> int:
    clocks.set_wrong()
    from datetime import timedelta

    from chaos.tickets import tickets
    from tierq import Client

    first, count = map(int, sys.argv[1:])
    with Client() as client:
        batch = client.submit_many(tickets(first, count), deadline=timedelta(seconds=DEADLINE_S))
        keys = [outcome.key for outcome in batch.as_completed(timeout=TIMEOUT_S) if outcome.ok]
    return 0 if len(keys) == len(set(keys)) == count else 1


if __name__ == "__main__":
    sys.exit(main())
