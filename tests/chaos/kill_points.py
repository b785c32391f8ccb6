"""Named points at which a worker kills itself: `CHAOS_KILL_AT="after_claim:3"` is SIGKILL at the third passing.

Everything is wrapped from outside; the product knows of none of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine as DatabaseEngine

VARIABLE = "CHAOS_KILL_AT"

_WHILE_IT_WORKS_S = 0.02
"""Into a call: the request has left, and the simulator is told to take longer than this."""


class Fuse:
    """Kills this process at the n-th passing."""

    def __init__(self, passings: int) -> None:
        self._passings = passings
        self._count = itertools.count(1)

    def is_due(self) -> bool:
        return next(self._count) == self._passings

    def passing(self) -> None:
        if self.is_due():
            kill()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm() -> None:
    """Arms the point that the environment names, if it names one."""
    name, _, passings = os.environ.get(VARIABLE, "").partition(":")
    if name:
        POINTS[name](Fuse(int(passings)))


def _after_receipt(fuse: Fuse) -> None:
    """A chunk has come from the broker; nothing is claimed."""
    from tierq_workers.engine import Engine

    accept = Engine.accept

    def wrapped(engine: Engine, message: dict[str, Any]) -> None:
        fuse.passing()
        accept(engine, message)

    Engine.accept = wrapped  # type: ignore[method-assign]


def _after_claim(fuse: Fuse) -> None:
    """Each id of a chunk is claimed and committed; the broker has no ack yet."""
    from tierq_workers.engine import Engine

    accept = Engine.accept

    def wrapped(engine: Engine, message: dict[str, Any]) -> None:
        accept(engine, message)
        fuse.passing()

    Engine.accept = wrapped  # type: ignore[method-assign]


def _during_call(fuse: Fuse) -> None:
    """The request has left, the provider works."""
    from tierq_workers.transport import Transport

    send = Transport.send

    async def wrapped(transport: Transport, *args: Any, **options: Any) -> Any:
        if fuse.is_due():
            asyncio.get_running_loop().call_later(_WHILE_IT_WORKS_S, kill)
        return await send(transport, *args, **options)

    Transport.send = wrapped  # type: ignore[method-assign]


def _after_answer(fuse: Fuse) -> None:
    """The provider has answered; nothing of it is recorded."""
    from tierq_workers.transport import Transport

    send = Transport.send

    async def wrapped(transport: Transport, *args: Any, **options: Any) -> Any:
        answer = await send(transport, *args, **options)
        fuse.passing()
        return answer

    Transport.send = wrapped  # type: ignore[method-assign]


def _before_commit(fuse: Fuse) -> None:
    """A group of outcomes and claims is written, its COMMIT has not been sent."""

    @event.listens_for(DatabaseEngine, "commit")
    def on_commit(_connection: Any) -> None:
        if _is_recorder():
            fuse.passing()


def _after_commit(fuse: Fuse) -> None:
    """A group is committed; neither the worker's memory nor a waiting producer has heard of it."""
    from tierq_shared.store.connection import Store

    write = Store.write

    def wrapped(store: Store, work: Callable[..., Any]) -> Any:
        result = write(store, work)
        if _is_recorder():
            fuse.passing()
        return result

    Store.write = wrapped  # type: ignore[method-assign]


def _is_recorder() -> bool:
    return threading.current_thread().name.startswith("tierq-recorder")


POINTS: dict[str, Callable[[Fuse], None]] = {
    "after_receipt": _after_receipt,
    "after_claim": _after_claim,
    "during_call": _during_call,
    "after_answer": _after_answer,
    "before_commit": _before_commit,
    "after_commit": _after_commit,
}
