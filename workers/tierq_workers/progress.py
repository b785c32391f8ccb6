"""Tells Flower how chunks fare, through Celery's public event dispatcher.

The Celery task returns when a chunk is claimed. What a person wants to see in Flower is the chunk in progress until its
last task ended, and then how many succeeded; so the engine sends the events itself, and the Celery task sends none.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from tierq_shared.ids import new_id
from tierq_shared.queues import CHUNK_TASK, Chunk, queue_name

log = logging.getLogger("tierq.worker")

_MAX_WAITING = 10_000
"""Events that wait for the broker; beyond it they are dropped: Flower is a window, not a ledger."""


@dataclass(eq=False, slots=True)
class Delivery:
    """One delivery of a chunk to this worker."""

    chunk: Chunk
    uuid: str = field(default_factory=new_id)
    began: float = field(default_factory=time.time)
    running: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    handed_back: int = 0
    is_shown: bool = False
    is_closed: bool = False
    """Nothing more of it will be claimed."""


class Progress:
    """Follows deliveries from their first claim to their last task's end; a thread of its own sends the events.

    A delivery that is handed back unclaimed is not shown: while all slots are taken there is one a second.
    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._events: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(_MAX_WAITING)
        self._of_task: dict[str, Delivery] = {}
        self._thread = threading.Thread(target=self._send_all, name="tierq-progress", daemon=True)
        self._thread.start()

    def claimed(self, delivery: Delivery, task_id: str) -> None:
        """A task of a delivery begins to run."""
        if not delivery.is_shown:
            delivery.is_shown = True
            self._show(delivery)
        delivery.running += 1
        self._of_task[task_id] = delivery

    def ended(self, task_id: str, state: str) -> None:
        """A task of some delivery is over for this worker: ended, or waiting again elsewhere."""
        delivery = self._of_task.pop(task_id, None)
        if delivery is not None:
            delivery.running -= 1
            delivery.ended[state] += 1
            self._finish(delivery)

    def closed(self, delivery: Delivery, handed_back: int) -> None:
        """Nothing more of a delivery will be claimed here."""
        delivery.is_closed = True
        delivery.handed_back = handed_back
        self._finish(delivery)

    def stop(self) -> None:
        """Sends what waits, as far as the broker takes it soon."""
        with suppress(queue.Full):
            self._events.put_nowait(None)
        self._thread.join(timeout=2.0)

    def _show(self, delivery: Delivery) -> None:
        self._tell(
            "task-received",
            delivery,
            name=CHUNK_TASK,
            args=delivery.chunk.title,
            kwargs="-",
            retries=0,
            eta=None,
            expires=None,
            routing_key=queue_name(delivery.chunk.tier),
        )
        self._tell("task-started", delivery)

    def _finish(self, delivery: Delivery) -> None:
        if delivery.is_shown and delivery.is_closed and not delivery.running:
            self._tell("task-succeeded", delivery, result=summary(delivery), runtime=time.time() - delivery.began)

    def _tell(self, event: str, delivery: Delivery, **fields: Any) -> None:
        try:
            self._events.put_nowait((event, {"uuid": delivery.uuid, **fields}))
        except queue.Full:
            log.debug("an event for Flower was dropped")

    def _send_all(self) -> None:
        while (first := self._events.get()) is not None:
            try:
                with self._app.events.default_dispatcher(hostname=self._hostname) as dispatcher:
                    item: tuple[str, dict[str, Any]] | None = first
                    while item is not None:
                        dispatcher.send(item[0], **item[1])
                        item = self._events.get()
                    return
            except Exception as error:  # whatever the broker's client raises, the work does not depend on it
                log.debug("events for Flower are delayed: %s", type(error).__name__)
                time.sleep(1.0)


def summary(delivery: Delivery) -> str:
    """What Flower shows as a delivery's result: `48 succeeded · 2 failed`."""
    counts = {"succeeded": delivery.ended["succeeded"], "failed": delivery.ended["failed"]}
    counts |= {state: count for state, count in sorted(delivery.ended.items()) if state not in counts}
    shown = [f"{count} {state}" for state, count in counts.items()]
    if delivery.handed_back:
        shown.append(f"{delivery.handed_back} handed back")
    return " · ".join(shown)
