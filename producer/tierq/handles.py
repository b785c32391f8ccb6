"""What a submission gives back: a `Batch` of many outcomes, a `Handle` of one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import update

from tierq.collecting import SLICE, Collector
from tierq.news import Listener, Subscription
from tierq.outputs import Decoder
from tierq_shared.errors import BatchAborted, WaitTimeout
from tierq_shared.ids import new_id
from tierq_shared.options import Usd, check_max_cost
from tierq_shared.outcomes import Outcome
from tierq_shared.store import budgets, dead_letters, leases, reading, sweeps
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.dead_letters import Failures, Retried
from tierq_shared.store.reading import Progress
from tierq_shared.store.tables import batches
from tierq_shared.store.tallies import finish_batches

T = TypeVar("T")

log = logging.getLogger("tierq")

NO_WORKER_WARNING_S = 5.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What handles need of their client."""

    store: Store
    listener: Listener


class Waiting:
    """One wait: its deadline, its news, and the warning that nobody is there to do the work."""

    def __init__(self, subscription: Subscription, woken: threading.Event, patience: Patience) -> None:
        self._subscription = subscription
        self._woken = woken
        self._patience = patience

    def news(self) -> list[int]:
        return self._subscription.take()

    def wait(self, batch_id: str, *, found_some: bool) -> bool:
        """Waits for news; True where the time to look without news has come.

        Raises:
            WaitTimeout: the timeout is over.
        """
        span = self._patience.span(batch_id, self._subscription.patience(found_some=found_some))
        woken = self._woken.wait(span)
        self._woken.clear()
        return not woken


class Patience:
    """How long a wait may still take."""

    def __init__(self, store: Store, timeout: float | None) -> None:
        self._store = store
        self._timeout = timeout
        self._began = time.monotonic()
        self._warned = False

    def span(self, batch_id: str, wanted: float) -> float:
        """Seconds to wait at the most now.

        Raises:
            WaitTimeout: none are left.
        """
        elapsed = time.monotonic() - self._began
        if elapsed > NO_WORKER_WARNING_S and not self._warned:
            self._warned = True
            warn_where_nobody_works(self._store, batch_id)
        if self._timeout is None:
            return wanted
        left = self._timeout - elapsed
        if left <= 0:
            raise WaitTimeout(f"batch {batch_id} was not done within {self._timeout:g} s; it goes on, wait again")
        return min(wanted, left)


def warn_where_nobody_works(store: Store, batch_id: str) -> None:
    """Logs a warning for each tier that has tasks of a batch waiting and no live worker."""
    with store.reading() as connection:
        waiting = {tier for (tier, state) in reading.states_by_tier(connection, batch_id) if state == "queued"}
        live = leases.live_workers(connection)
    for tier in sorted(waiting - set(live)):
        log.warning("no live worker serves tier %r, and tasks wait there: start one with `tierq worker %s`", tier, tier)


def cancel_batch(store: Store, batch_id: str) -> None:
    """Stops a batch: claims honour it at once, waiting tasks are settled in slices, what is finished is kept."""
    statement = update(batches).where(batches.c.id == batch_id, batches.c.cancelled_at.is_(None))
    store.write(lambda connection: connection.execute(statement.values(cancelled_at=now())))
    # The sweeper would do it too, but a batch can be cancelled where no worker lives.
    canceller, position = new_id(), -1
    while ended := store.write(
        partial(sweeps.cancel_tasks, sweeper_id=canceller, batch_id=batch_id, after_position=position)
    ):
        position = ended[-1][1]
    store.write(partial(finish_batches, batch_ids=[batch_id]))


def refuse_aborted(progress: Progress) -> None:
    """Raises BatchAborted where nothing of a batch runs because its submission failed."""
    if progress.state == "aborted":
        raise BatchAborted(
            f"the submission of batch {progress.batch_id} failed half-way, nothing of it runs: submit it again"
        )


class Batch(Generic[T]):
    """Tasks submitted together. It can be waited for, read, picked up again by its id, and cancelled."""

    def __init__(self, desk: Desk, batch_id: str, decoder: Decoder) -> None:
        self.id = batch_id
        self.desk = desk
        self.decoder = decoder

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def progress(self) -> Progress:
        """How far it is."""
        with self.desk.store.reading() as connection:
            return reading.progress(connection, self.id)

    def wait(self, timeout: float | None = None) -> Progress:
        """Waits until every task has ended.

        Raises:
            WaitTimeout: ``timeout`` seconds were not enough; the work goes on.
            BatchAborted: its submission failed half-way.
        """
        with self._waiting(timeout) as waiting:
            while not (progress := self.progress()).is_over:
                waiting.wait(self.id, found_some=bool(waiting.news()))
        refuse_aborted(progress)
        return progress

    def as_completed(self, timeout: float | None = None) -> Iterator[Outcome[T]]:
        """Each outcome once, as it is committed.

        Raises:
            WaitTimeout: ``timeout`` seconds were not enough for all of them.
        """
        collector = Collector(self.desk.store, self.id, self.decoder)
        with self._waiting(timeout) as waiting:
            scan = True
            while True:
                found = collector.ready(waiting.news(), scan=scan)
                yield from found
                if collector.is_done:
                    return
                scan = False
                if not collector.has_more:
                    scan = waiting.wait(self.id, found_some=bool(found))

    def results(self, timeout: float | None = None) -> Iterator[Outcome[T]]:
        """All outcomes in the order of submission, when every task has ended.

        Raises:
            WaitTimeout: ``timeout`` seconds were not enough.
        """
        self.wait(timeout)
        return self.outcomes()

    def outcomes(self) -> Iterator[Outcome[T]]:
        """All tasks in the order of submission as they stand now, ended or not."""
        position = -1
        while page := self.page_after(position):
            yield from page
            position = page[-1].position

    def page_after(self, position: int) -> list[Outcome[T]]:
        """A page of tasks in order, beyond a position."""
        with self.desk.store.reading() as connection:
            tags = reading.batch_tags(connection, self.id)
            return reading.outcomes_after(connection, self.id, position, SLICE, tags, self.decoder)

    def cancel(self) -> None:
        """Stops it: waiting tasks become `cancelled`, what is finished is kept."""
        cancel_batch(self.desk.store, self.id)

    def set_cap(self, max_cost: Usd) -> None:
        """Raises or lowers its cap. What waits for room goes on at once; what failed for it can be retried.

        Raises:
            InvalidTask: it is no amount of USD, or the batch was submitted without a cap.
        """
        limit = check_max_cost(max_cost)
        self.desk.store.write(partial(budgets.set_batch_cap, batch_id=self.id, limit_nusd=limit))

    def failures(self, limit: int = dead_letters.GROUPS) -> Failures:
        """Why tasks failed: the ``limit`` most frequent causes, each with an example and all its attempts."""
        with self.desk.store.reading() as connection:
            return dead_letters.failures(connection, self.id, limit)

    def retry(self, codes: Iterable[str] | None = None) -> Retried:
        """Sends failed tasks again: those with these error codes, else those whose error is ``retryable``.

        Their attempts are kept, and stay charged. The batch runs again, and can be waited for again.

        Raises:
            RetryRefused: it is open, cancelled or aborted, or a code is unknown; nothing is changed.
        """
        return dead_letters.retry(self.desk.store, self.id, codes)

    @contextmanager
    def _waiting(self, timeout: float | None) -> Iterator[Waiting]:
        woken = threading.Event()
        with self.desk.listener.listen(self.id, woken.set) as subscription:
            yield Waiting(subscription, woken, Patience(self.desk.store, timeout))


class Handle(Generic[T]):
    """One submitted task."""

    def __init__(self, batch: Batch[T]) -> None:
        self.batch = batch

    def __repr__(self) -> str:
        return f"<Handle of batch {self.batch.id}>"

    @property
    def id(self) -> str:
        """The id of its batch of one, by which `Client.batch` picks it up again."""
        return self.batch.id

    def wait(self, timeout: float | None = None) -> Outcome[T]:
        """Waits for its outcome.

        Raises:
            WaitTimeout: ``timeout`` seconds were not enough; the work goes on.
        """
        return next(iter(self.batch.as_completed(timeout)))

    def progress(self) -> Progress:
        return self.batch.progress()

    def cancel(self) -> None:
        self.batch.cancel()
