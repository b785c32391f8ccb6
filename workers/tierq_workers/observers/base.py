"""What a worker tells those who watch it: the map of its work, one hook a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.connection import Store
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_workers.vitals import Vitals

log = logging.getLogger("tierq.worker")


class Observer:
    """Watches one worker process. Every hook does nothing until it is overridden; none may block or raise.

    Hooks about tasks and calls come from the event loop, the others from any thread. Inputs and outputs are in what
    they are given: no observer passes those on.
    """

    def begins(self, store: Store, look: Callable[[], Vitals]) -> None:
        """The worker begins. ``look`` tells at any time, to any thread, how it fares."""

    def claimed(self, task: ClaimedTask, attempt: NewAttempt) -> None:
        """A task is this worker's to run: its claim is committed, its first attempt written ahead."""

    def called(self, task: ClaimedTask, attempt: NewAttempt) -> None:
        """A call is about to be sent."""

    def answered(self, task: ClaimedTask, attempt: NewAttempt, result: AttemptResult) -> None:
        """A call has ended, with what it came to. Its commit follows."""

    def ended(self, task: ClaimedTask, fate: str) -> None:
        """A claim is over and committed: `succeeded`, `failed`, `queued again`, `escalated`, `taken over` …"""

    def committed(self, outcomes: int, claims: int, seconds: float) -> None:
        """The recorder has committed a group."""

    def swept(self, seconds: float) -> None:
        """This worker has swept once."""

    def requeued(self, tasks: int) -> None:
        """A sweep found tasks of a dead worker, which are queued again."""

    def lost(self, chunks: int) -> None:
        """A sweep found chunks that the broker had lost, which are published again."""

    def close(self) -> None:
        """The worker stops; what is buffered goes out now."""


NOBODY = Observer()
"""Where nobody watches."""


class Observers(Observer):
    """All that watch a worker. One that fails is heard of once in the log, and harms nobody."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._failed: set[str] = set()

    def begins(self, store: Store, look: Callable[[], Vitals]) -> None:
        self._tell(lambda one: one.begins(store, look))

    def claimed(self, task: ClaimedTask, attempt: NewAttempt) -> None:
        self._tell(lambda one: one.claimed(task, attempt))

    def called(self, task: ClaimedTask, attempt: NewAttempt) -> None:
        self._tell(lambda one: one.called(task, attempt))

    def answered(self, task: ClaimedTask, attempt: NewAttempt, result: AttemptResult) -> None:
        self._tell(lambda one: one.answered(task, attempt, result))

    def ended(self, task: ClaimedTask, fate: str) -> None:
        self._tell(lambda one: one.ended(task, fate))

    def committed(self, outcomes: int, claims: int, seconds: float) -> None:
        self._tell(lambda one: one.committed(outcomes, claims, seconds))

    def swept(self, seconds: float) -> None:
        self._tell(lambda one: one.swept(seconds))

    def requeued(self, tasks: int) -> None:
        self._tell(lambda one: one.requeued(tasks))

    def lost(self, chunks: int) -> None:
        self._tell(lambda one: one.lost(chunks))

    def close(self) -> None:
        self._tell(lambda one: one.close())

    def _tell(self, hook: Callable[[Observer], None]) -> None:
        for one in self._observers:
            try:
                hook(one)
            except Exception as error:
                name = type(one).__name__
                if name not in self._failed:
                    self._failed.add(name)
                    # Its text may quote what the observer was given.
                    log.warning("%s failed (%s); it is not spoken of again", name, type(error).__name__)
