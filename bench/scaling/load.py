"""What the two tiers are given to do: a steady trickle on both, and one wave on the tier that is scaled."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from bench import workload
from tierq import Batch, Client, Task

EVERY_S = 0.5


class Load:
    """Submits a trickle in a thread of its own until it is stopped."""

    def __init__(self, client: Client, trickle: dict[str, int]) -> None:
        self._client = client
        self._trickle = trickle
        """Tasks at a time, by tier."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-load", daemon=True)
        self._batches: list[Batch[str]] = []
        self.submitted = 0

    def start(self) -> None:
        self._thread.start()

    def submit(self, tier: str, count: int) -> None:
        """One batch for one tier, in slices as `submit_many` makes them."""
        self._batches.append(self._client.submit_many(_pinned(tier, count)))
        self.submitted += count

    def finish(self, timeout: float) -> None:
        """Ends the trickle, and waits until all that was submitted has ended.

        Raises:
            WaitTimeout: it took longer.
        """
        self._over.set()
        self._thread.join()
        for batch in self._batches:
            batch.wait(timeout)

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            for tier, count in self._trickle.items():
                self.submit(tier, count)


def _pinned(tier: str, count: int) -> Iterator[Task[str]]:
    return (workload.SPEC(text, tier=tier) for text in workload.texts(count))
