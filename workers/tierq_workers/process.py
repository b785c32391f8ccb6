"""The worker's process: its event loop, and its end where it could do no more good."""

from __future__ import annotations

import asyncio
import logging
import os

log = logging.getLogger("tierq.worker")

EX_SOFTWARE = 70
"""The exit code of an internal error (BSD sysexits.h)."""


def end_process(service: asyncio.Task[None]) -> None:
    """A worker whose recorder, lease or sweeper died must not live on and hold its tasks: it ends, others take over."""
    if not service.cancelled() and service.exception() is not None:
        log.critical("a service of the worker ended; the process ends", exc_info=service.exception())
        logging.shutdown()
        os._exit(EX_SOFTWARE)


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
