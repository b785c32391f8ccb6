"""What is asked of a running TierQ worker: wait until it is warm, give it a backlog, read its rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from bench import workload
from tierq import Batch, Client
from tierq_shared.settings import Settings
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

_LOOK_S = 0.25
"""Looking for the end costs the other core a query; as often as this it is not seen in the figures."""


@dataclass(frozen=True, slots=True)
class Span:
    """From a batch's first claim to its last commit, by the database's clock."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


def warm_up(client: Client, count: int = 400) -> None:
    """Runs tasks until the worker has its connections and its statements ready."""
    finish(client.submit_many(workload.tasks(count)), timeout=60)


def finish(batch: Batch[str], timeout: float) -> None:
    """Waits until all tasks of a batch have succeeded.

    Raises:
        RuntimeError: some failed, or took too long: there is no figure then.
    """
    until = time.monotonic() + timeout
    while not (progress := batch.progress()).is_over:
        if time.monotonic() > until:
            raise RuntimeError(f"the batch did not end within {timeout:g} s: {progress}")
        time.sleep(_LOOK_S)
    if progress.succeeded != progress.total:
        raise RuntimeError(f"some tasks did not succeed: {progress}")


def span(settings: Settings, batch_id: str) -> Span:
    """When a batch's work began and ended."""
    assert settings.database_url is not None
    store = Store(settings.database_url.get_secret_value())
    began = select(func.min(attempts.c.started_at)).join(tasks, tasks.c.id == attempts.c.task_id)
    ended = select(func.max(tasks.c.finished_at)).where(tasks.c.batch_id == batch_id)
    with store.reading() as connection:
        found = Span(
            connection.execute(began.where(tasks.c.batch_id == batch_id)).scalar_one(),
            connection.execute(ended).scalar_one(),
        )
    store.close()
    return found
