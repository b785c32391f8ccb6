"""A submission that is left half-way: the batch stays open, and the same job carries on in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.jobs import job_of
from support.servers import Site
from support.waiting import eventually
from tierq import Client
from tierq_console import batches
from tierq_console.submitting_thread import Submission
from tierq_shared import configuration
from tierq_shared.store.reading import Progress
from tierq_shared.tasks import Task

COUNT = 2_300


def write_tickets(folder: Path) -> Path:
    path = folder / "tickets.csv"
    path.write_text("id,body\n" + "".join(f"T{number},ticket {number}\n" for number in range(COUNT)))
    return path


def test_who_leaves_gives_nothing_up_and_the_same_job_carries_on(site: Site) -> None:
    settings = configuration.load(site.config)
    job = job_of(write_tickets(site.folder), key="id")
    come_so_far, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[Task[Any]]:
        for number, task in enumerate(job.tasks([])):
            if number == 1_700:
                come_so_far.set()
                go_on.wait(20)
            yield task

    with batches.open_store(settings) as store, Client(settings=settings) as client:

        def found() -> Progress:
            progress = batches.find_by_key(store, job.key)
            assert progress is not None
            return progress

        first = Submission(client, job, slowly)
        first.start()
        assert come_so_far.wait(20)
        threading.Timer(0.05, go_on.set).start()
        first.leave()
        first.raise_error()
        left = found()
        assert (left.state, left.total) == ("open", None)

        second = Submission(client, job, lambda: job.tasks([]))
        second.start()
        eventually(lambda: found().total is not None)
        second.leave()
        second.raise_error()
        carried_on = found()
        assert (carried_on.batch_id, carried_on.state, carried_on.total) == (left.batch_id, "running", COUNT)
        keys = [outcome.key for outcome in client.batch(left.batch_id).outcomes()]
        assert keys == [f"T{number}" for number in range(COUNT)]

        batches.start_over(store, job.key)
        assert batches.find_by_key(store, job.key) is None
        assert client.batch(left.batch_id).progress().state == "cancelled"
