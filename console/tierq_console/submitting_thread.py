"""Submits a job beside the command that watches it, and can be left at any moment without giving the batch up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from tierq import Client, Quote
from tierq_shared.options import Usd, WhenReached
from tierq_shared.tasks import Task

_PARK_TIMEOUT_S = 5.0


class Submittable(Protocol):
    """What is told of a batch when it is submitted."""

    @property
    def key(self) -> str:
        """Its idempotency key."""

    @property
    def label(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def deadline(self) -> datetime | timedelta | None: ...
    @property
    def max_cost(self) -> Usd | None: ...
    @property
    def on_cap(self) -> WhenReached | None: ...


class Submission:
    """The submission of one job, in a thread of its own.

    An error inside a submission gives its batch up, and Ctrl-C would be one. So who leaves parks the thread between
    two tasks: the batch stays open, what is committed of it stays, and the same job carries on there another time.
    """

    def __init__(
        self, client: Client, job: Submittable, tasks: Callable[[], Iterator[Task[Any]]], quote: Quote | None = None
    ) -> None:
        self._client = client
        self._job = job
        self._tasks = tasks
        self._quote = quote
        self._leaving = threading.Event()
        self._quiet = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tierq-submission", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def raise_error(self) -> None:
        """Raises what stopped the submission, if anything did."""
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Lets the transaction under way end, and nothing follow it."""
        self._leaving.set()
        self._quiet.wait(_PARK_TIMEOUT_S)

    def _run(self) -> None:
        job = self._job
        try:
            self._client.submit_many(
                self._drawn(),
                key=job.key,
                label=job.label,
                tags=job.tags or None,
                deadline=job.deadline,
                streaming=True,
                quote=self._quote,
                max_cost=job.max_cost,
                on_cap=job.on_cap,
            )
        except BaseException as error:
            self._error = error
        finally:
            self._quiet.set()

    def _drawn(self) -> Iterator[Task[Any]]:
        for task in self._tasks():
            if self._leaving.is_set():
                self._quiet.set()
                # For ever: the process ends with this thread, which is no end of the submission.
                threading.Event().wait()
            yield task
