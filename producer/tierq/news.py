"""News of ended tasks: pushed over Redis to one thread a client; without Redis, the waiting side polls."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tierq_shared import announcements
from tierq_shared.ids import new_id

log = logging.getLogger("tierq")

PUSHED_POLL_S = 2.0
"""How often SQL is asked although news are pushed: an announcement may be lost, a row may not."""

FIRST_POLL_S = 0.02
SLOWEST_POLL_S = 0.5


class Subscription:
    """One waiter's news of one batch. ``notify`` is called from the listener's thread."""

    def __init__(self, notify: Callable[[], None], *, pushed: bool) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._positions: list[int] = []
        self._idle = 0
        self.pushed = pushed

    def tell(self, positions: list[int]) -> None:
        with self._lock:
            self._positions += positions
        self._notify()

    def take(self) -> list[int]:
        """The positions announced since the last time."""
        with self._lock:
            taken, self._positions = self._positions, []
        return taken

    def patience(self, *, found_some: bool) -> float:
        """Seconds to wait for news before SQL is asked: growing while nothing happens, where nothing is pushed."""
        if self.pushed:
            return PUSHED_POLL_S
        self._idle = 0 if found_some else self._idle + 1
        return min(SLOWEST_POLL_S, FIRST_POLL_S * 1.3**self._idle)


class Listener:
    """The one thread of a client that hears announcements. It starts with the first waiter."""

    def __init__(self, state_url: str | None) -> None:
        self._url = state_url
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Subscription]] = defaultdict(list)
        self._confirmed: dict[str, threading.Event] = {}
        self._pubsub: Any = None
        self._closed = False

    @contextmanager
    def listen(self, batch_id: str, notify: Callable[[], None]) -> Iterator[Subscription]:
        """News of a batch, for as long as the block runs. When it begins, nothing that follows is missed."""
        pushed = self._start()
        subscription = Subscription(notify, pushed=pushed)
        channel = announcements.channel(batch_id)
        if pushed:
            self._join(channel, subscription)
        try:
            yield subscription
        finally:
            if pushed:
                self._leave(channel, subscription)

    def close(self) -> None:
        self._closed = True
        if self._pubsub is not None:
            self._pubsub.close()

    def _start(self) -> bool:
        """Whether announcements are heard; the first call connects."""
        with self._lock:
            if self._pubsub is not None or self._url is None or self._closed:
                return self._pubsub is not None
            pubsub = announcements.connect(self._url).pubsub()  # type: ignore[no-untyped-call]
            try:
                # A channel of our own keeps the connection in use while nobody waits.
                pubsub.subscribe(f"tierq:client:{new_id()}")
            except announcements.errors() as error:
                log.warning("results are polled from SQL: the state Redis cannot be reached (%s)", type(error).__name__)
                self._url = None
                return False
            self._pubsub = pubsub
            threading.Thread(target=self._hear, name="tierq-news", daemon=True).start()
            return True

    def _join(self, channel: str, subscription: Subscription) -> None:
        with self._lock:
            self._waiters[channel].append(subscription)
            confirmed = self._confirmed.get(channel)
            if confirmed is None:
                confirmed = self._confirmed[channel] = threading.Event()
                try:
                    self._pubsub.subscribe(channel)
                except announcements.errors():
                    subscription.pushed = False
        confirmed.wait(announcements.CONNECT_TIMEOUT_S)

    def _leave(self, channel: str, subscription: Subscription) -> None:
        with self._lock:
            self._waiters[channel].remove(subscription)
            if self._waiters[channel]:
                return
            del self._waiters[channel], self._confirmed[channel]
            try:
                self._pubsub.unsubscribe(channel)
            except announcements.errors():
                log.debug("could not unsubscribe; the connection is gone")

    def _hear(self) -> None:
        while not self._closed:
            try:
                message = self._pubsub.get_message(timeout=1.0)
            except announcements.errors():
                # redis-py subscribes again by itself on the next read; until then, waiters poll.
                self._wake_everyone()
                continue
            except (ValueError, OSError, AttributeError):
                return  # closed under our feet
            if message is not None:
                self._pass_on(message)

    def _pass_on(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        with self._lock:
            if message["type"] == "subscribe" and channel in self._confirmed:
                self._confirmed[channel].set()
            waiters = list(self._waiters.get(channel, ())) if message["type"] == "message" else []
        positions = announcements.decode(message["data"]) if waiters else []
        for waiter in waiters:
            waiter.tell(positions)

    def _wake_everyone(self) -> None:
        with self._lock:
            waiters = [waiter for group in self._waiters.values() for waiter in group]
        for waiter in waiters:
            waiter.tell([])
        threading.Event().wait(0.2)
