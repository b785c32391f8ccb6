"""The periodic job that makes the broker agree with SQL. Every worker process carries it; a lease lets one work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tierq_shared.queues import BrokerDown, Chunk, Publisher
from tierq_shared.settings import RetentionSettings, ShadowSettings, WorkerSettings
from tierq_shared.store import cache, controls, drift, erasing, leases, retention, schema, shadows, sweeps
from tierq_shared.store.connection import Store
from tierq_shared.store.submission import forget_chunks, mark_published
from tierq_shared.store.tallies import finish_batches
from tierq_shared.webhooks import Endpoint
from tierq_workers.noticing import Noticing
from tierq_workers.observers.base import NOBODY, Observer

T = TypeVar("T")

log = logging.getLogger("tierq.sweeper")

LEASE = "sweep"
_SLICES = 50
"""Slices of one kind in one sweep: a sweep takes its turn again soon, and others get theirs."""

_SLOW_EVERY = 5
"""Every fifth sweep also looks for what is rare."""

_AFTER_DEATH_S = 10.0
"""How often a queue may be asked for lost messages when workers die."""

Announce = Callable[[list[tuple[str, int]]], None]


class Sweeper:
    """One sweep at a time in the whole installation. ``announce`` tells waiting producers what ended."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        settings: WorkerSettings,
        announce: Announce,
        shadow: ShadowSettings | None = None,
        observer: Observer = NOBODY,
        endpoints: Sequence[Endpoint] = (),
        kept: RetentionSettings | None = None,
    ) -> None:
        self._store = store
        self._kept = kept or RetentionSettings()
        self._noticing = Noticing(store, endpoints)
        self._publisher = publisher
        self._settings = settings
        self._announce = announce
        self._shadow = shadow or ShadowSettings()
        self._observer = observer
        self._turn = 0
        self._judged_at = time.monotonic()

    def sweep(self, holder: str) -> bool:
        """Sweeps once, if no other worker does; whether it did. Passing troubles are left to the next sweep."""
        began = time.monotonic()
        try:
            if not self._take_turn(holder):
                return False
            self._turn += 1
            is_slow = self._turn % _SLOW_EVERY == 0
            # First what needs no broker: batches end and deadlines pass while it is down, too.
            self._settle_cancelled(holder)
            if is_slow:
                self._expire(holder)
                self._finish()
                self._forget_answers()
                self._forget_controls()
                self._notice()
            any_gone = self._settle_workers(holder)
            self._ring()
            if any_gone:
                # Messages may have died with a worker, between the broker and its receipt: they are asked for soon.
                self._find_lost(min(_AFTER_DEATH_S, self._settings.marker_every))
            elif is_slow:
                self._find_lost(self._settings.marker_every)
            if time.monotonic() - self._judged_at >= self._shadow.judge_every:
                self._judge()
            if is_slow:
                self._keep_retention()
        except (BrokerDown, DBAPIError) as error:
            log.warning("a sweep was broken off (%s); the next one goes on", type(error).__name__)
        self._observer.swept(time.monotonic() - began)
        return True

    def _take_turn(self, holder: str) -> bool:
        if self._read(lambda connection: leases.held_by_another(connection, LEASE, holder)):
            return False
        span = max(10.0, 5 * self._settings.sweep_every)
        return self._store.write(lambda connection: leases.take(connection, LEASE, holder, span))

    def _ring(self) -> None:
        """Publishes what nobody published, and what is due."""
        for _ in range(_SLICES):
            found = self._read(sweeps.chunks_to_ring)
            if not found:
                return
            self._publish(found)

    def _publish(self, chunks: list[Chunk]) -> None:
        waiting = [chunk for chunk in chunks if chunk.task_ids]
        settled = [chunk.id for chunk in chunks if not chunk.task_ids]
        if settled:
            self._store.write(lambda connection: forget_chunks(connection, settled))
        if waiting:
            self._publisher.publish(waiting)
            self._store.write(lambda connection: mark_published(connection, [chunk.id for chunk in waiting]))

    def _settle_workers(self, holder: str) -> bool:
        """Takes back what dead workers had; whether there were any."""
        gone = self._read(sweeps.dead_workers)
        for worker_id in gone:
            for _ in range(_SLICES):
                settled = self._store.write(
                    partial(
                        sweeps.settle_worker,
                        worker_id=worker_id,
                        sweeper_id=holder,
                        max_attempts=self._settings.max_attempts,
                    )
                )
                self._announce(settled.ended)
                if settled.chunks:
                    again = _size(settled.chunks)
                    log.warning("worker %s is gone: %d of its tasks are queued again", worker_id, again)
                    self._observer.requeued(again)
                    self._publish(settled.chunks)
                if settled.is_done:
                    break
        return bool(gone)

    def _settle_cancelled(self, holder: str) -> None:
        for batch_id, state in self._read(sweeps.cancelled_batches):
            position = -1
            for _ in range(_SLICES):
                ended = self._store.write(
                    partial(sweeps.cancel_tasks, sweeper_id=holder, batch_id=batch_id, after_position=position)
                )
                if not ended:
                    break
                position = max(one for _, one in ended)
                self._announce(ended)
            else:
                continue  # more than one sweep takes: the next one goes on
            if state == "aborted":
                self._store.write(partial(sweeps.close_aborted, batch_id=batch_id))
            else:
                self._store.write(partial(finish_batches, batch_ids=[batch_id]))

    def _expire(self, holder: str) -> None:
        for _ in range(_SLICES):
            ended = self._store.write(lambda connection: sweeps.expire_tasks(connection, holder))
            if not ended:
                return
            self._announce(ended)

    def _find_lost(self, every_s: float) -> None:
        """Rings again what markers proved lost, and sends markers where chunks have waited long."""
        lost = self._store.write(sweeps.ring_lost_chunks)
        if lost:
            log.warning("%d chunks were lost by the broker and are published again", lost)
            self._observer.lost(lost)
        for tier, priority in self._read(lambda connection: sweeps.markers_due(connection, every_s)):
            at = self._store.write(partial(sweeps.start_marker, tier=tier, priority=priority))
            self._publisher.publish_marker(tier, priority, at.isoformat())

    def _finish(self) -> None:
        running = self._read(sweeps.running_batches)
        for start in range(0, len(running), sweeps.SLICE):
            part = running[start : start + sweeps.SLICE]
            self._store.write(partial(finish_batches, batch_ids=part))

    def _forget_answers(self) -> None:
        for _ in range(_SLICES):
            if not self._store.write(cache.forget_expired):
                return

    def _forget_controls(self) -> None:
        if schema.has(self._store, controls.SINCE):
            self._store.write(controls.forget_ended)

    def _keep_retention(self) -> None:
        """Erases what has been kept long enough."""
        if not schema.has(self._store, erasing.SINCE):
            return
        for kind, span in self._read(partial(retention.due, settings=self._kept)):
            for _ in range(_SLICES):
                if not self._store.write(partial(retention.erase_slice, name=kind, span_s=span)):
                    break

    def _notice(self) -> None:
        """Puts what webhooks are told of into their outbox."""
        try:
            self._noticing.look()
        except DBAPIError:
            raise
        except Exception as error:  # as below: what cannot be told must not end the worker
            log.warning("webhooks are not told of what happened (%s)", type(error).__name__)

    def _judge(self) -> None:
        """Makes evidence of ended shadows, and sounds the alarm where it shows that a rule's tier no longer does."""
        self._judged_at = time.monotonic()
        window, least = self._shadow.window, self._shadow.min_samples
        try:
            for _ in range(_SLICES):
                if not self._store.write(shadows.judge_shadows):
                    break
            while self._read(lambda connection: drift.find_drifted(connection, window, least)):
                alarm = self._store.write(lambda connection: drift.move_drifted(connection, window, least))
                if alarm is None:  # somebody chose another version just now
                    break
                log.error("%s", alarm)
        except DBAPIError:
            raise
        except Exception as error:  # an answer of a shape nobody thought of must not end the worker
            log.warning("live evidence could not be judged (%s)", type(error).__name__)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._store.reading() as connection:
            return work(connection)


def _size(chunks: list[Chunk]) -> int:
    return sum(len(chunk.task_ids) for chunk in chunks)
