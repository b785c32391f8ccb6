"""Runs a job to its end: checks it, submits it while it is read, watches it, writes its outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tierq import Batch, Client, Quote
from tierq_console import batches
from tierq_console.checking import Checked, check
from tierq_console.file_options import check_options
from tierq_console.jobs import Job
from tierq_console.outputs import row_of, writing
from tierq_console.policy_sources import policy_in_force
from tierq_console.progress_view import View
from tierq_console.quote_view import quote_lines
from tierq_console.readiness import check_keys, working_settings
from tierq_console.stack import running_stack
from tierq_console.submitting_thread import Submission
from tierq_console.summary import Failures, Summary
from tierq_insight import spending
from tierq_shared import configuration
from tierq_shared.active_policy import ActivePolicy
from tierq_shared.money import show_usd
from tierq_shared.options import check_max_cost
from tierq_shared.policy import Policy
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings
from tierq_shared.store import budgets, leases, reading
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress

_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.02, 0.5
_STILL_S = 5.0
"""When nothing has ended for this long, it is looked whether anybody is there to do the work."""


@dataclass(frozen=True)
class Order:
    """How a job is to be run."""

    job: Job
    output: Path
    fresh: bool
    show_quote: bool = False
    """Says the quote before anything is submitted. It is kept with the batch in any case."""


class Interrupted(Exception):
    """Ctrl-C, at a point where it can be said how to carry on."""


def run(order: Order, settings: Settings, view: View) -> Summary:
    """Runs a job, or carries on where the same job was left; nothing that is committed is paid again.

    Raises:
        InvalidInput: something about the file or the options is wrong; nothing was submitted.
        Interrupted: Ctrl-C; what is committed is kept.
    """
    began = time.monotonic()
    job = order.job
    checked = check_job(job, settings, policy_in_force(settings), view)
    if not order.fresh and (ended := batches.find_ended(settings, job.key)) is not None:
        view.note(
            f"all {ended.total or 0:,} tasks of this job have ended before: nothing to run (--fresh runs it anew)"
        )
        return _finish(order, checked, configuration.with_embedded_urls(settings), ended, began)
    check_keys(settings)
    try:
        with running_stack(settings, notify=view.note) as running:
            ended = _carry_out(order, checked, running, view, _least_workers(settings))
            return _finish(order, checked, running, ended, began)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what is done is kept. The same command carries on, and pays nothing twice"
        ) from None


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted, and is done elsewhere."""

    batch_id: str
    total: int
    set_aside: int

    def json(self) -> dict[str, Any]:
        return {"batch_id": self.batch_id, "total": self.total, "set_aside": self.set_aside}


def submit(job: Job, settings: Settings, view: View, *, fresh: bool) -> Submitted:
    """Submits a job to the stack that is configured or runs in this folder, without waiting for it.

    Raises:
        InvalidInput: something about the file or the options is wrong; nothing was submitted.
        ConfigurationError: no database is configured, and no stack runs here.
    """
    with working_settings(settings) as running, batches.open_store(running) as store:
        checked = check_job(job, settings, ActivePolicy(running, store).current(), view)
        if fresh:
            batches.start_over(store, job.key)
        with Client(settings=running) as client:
            batch = client.submit_many(
                job.tasks(checked.bad_lines),
                key=job.key,
                label=job.label,
                tags=job.tags or None,
                deadline=job.deadline,
                quote=Quoter(running, store).quote(checked.tally),
                max_cost=job.max_cost,
                on_cap=job.on_cap,
            )
            _set_cap(batch, job)
        for tier in unserved(store, batch.id):
            view.note(f"no live worker serves tier {tier!r} yet: its tasks wait for `tierq worker {tier}`")
        if checked.bad:
            view.note(f"{checked.bad:,} bad rows were set aside in {job.bad_path}")
        return Submitted(batch.id, checked.good, checked.bad)


def quote(job: Job, settings: Settings, view: View) -> Quote:
    """What a job will cost and how long it will take; nothing is submitted, started or spent.

    Raises:
        InvalidInput: something about the file or the options is wrong.
    """
    checked = check_job(job, settings, policy_in_force(settings), view)
    with batches.store_if_there(settings) as store:
        return Quoter(settings, store).quote(checked.tally, least_workers=_least_workers(settings))


def _least_workers(settings: Settings) -> int:
    """How many workers each tier will have anyway: the embedded stack brings one."""
    return 1 if settings.database_url is None else 0


def check_job(job: Job, settings: Settings, policy: Policy, view: View) -> Checked:
    """All of the input that can be refused is refused here.

    Raises:
        InvalidInput: with every line at fault.
        Interrupted: Ctrl-C.
    """
    check_options(job, settings, policy)
    try:
        return check(job, settings, policy, lambda rows: view.note(f"{rows:,} rows checked"))
    except KeyboardInterrupt:
        raise Interrupted("stopped while the input was checked; nothing was submitted") from None


def _carry_out(order: Order, checked: Checked, settings: Settings, view: View, least_workers: int) -> Progress:
    job = order.job
    with batches.open_store(settings) as store, Client(settings=settings) as client:
        if order.fresh:
            batches.start_over(store, job.key)
        before = batches.find_by_key(store, job.key)
        if before is not None:
            view.note(f"carrying on with batch {before.batch_id}: {before.done:,} of {checked.good:,} have ended")
            _set_cap(client.batch(before.batch_id), job)
        quoted = None if before else Quoter(settings, store).quote(checked.tally, least_workers=least_workers)
        if quoted is not None and order.show_quote:
            view.note("\n".join(quote_lines(quoted)))
        submission = Submission(client, job, lambda: job.tasks(checked.bad_lines), quoted)

        def look() -> Progress | None:
            submission.raise_error()
            return batches.find_by_key(store, job.key)

        if before is None or before.total is None:
            submission.start()
        try:
            return Watch(store, view, look, checked.good).until_over()
        finally:
            submission.leave()


def _set_cap(batch: Batch[Any], job: Job) -> None:
    """A job that is carried on with another cap goes on under that one."""
    if job.max_cost is not None and batch.progress().max_cost_nusd != check_max_cost(job.max_cost):
        batch.set_cap(job.max_cost)


def wait_for(store: Store, batch_id: str, view: View) -> Progress:
    """Waits until every task of a batch has ended."""

    def look() -> Progress:
        with store.reading() as connection:
            return reading.progress(connection, batch_id)

    return Watch(store, view, look, look().total).until_over()


class Watch:
    """Looks at a batch until all of it has ended. ``total`` is what is known of its size before it is sealed."""

    def __init__(self, store: Store, view: View, look: Callable[[], Progress | None], total: int | None) -> None:
        self._store = store
        self._view = view
        self._look = look
        self._total = total
        self._done = -1
        self._moved_at = time.monotonic()
        self._warned = False

    def until_over(self) -> Progress:
        pause = _FIRST_LOOK_S
        while True:
            progress = self._look()
            if progress is not None:
                self._view.show(progress, self._total or progress.total)
                if progress.is_over:
                    return progress
                self._look_for_workers(progress)
            threading.Event().wait(pause)
            pause = min(_SLOWEST_LOOK_S, pause * 1.3)

    def _look_for_workers(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.done != self._done:
            self._done, self._moved_at = progress.done, now
        elif not self._warned and now - self._moved_at > _STILL_S:
            self._warned = True
            for tier in unserved(self._store, progress.batch_id):
                self._view.note(f"no live worker serves tier {tier!r}: start one with `tierq worker {tier}`")
            if (reached := reached_cap(self._store, progress.batch_id)) is not None:
                raise_it = f"`tierq cap {progress.batch_id} USD` raises it"
                self._view.note(f"the batch's cap of {show_usd(reached)} is reached, and tasks wait: {raise_it}")


def reached_cap(store: Store, batch_id: str) -> int | None:
    """A batch's cap, where tasks wait because it is reached."""
    with store.reading() as connection:
        cap = budgets.read_batch_cap(connection, batch_id)
        found = budgets.read_budgets(connection, [cap]) if cap is not None else []
    return next((budget.limit_nusd for _, budget in found if budget.reached_at is not None), None)


def unserved(store: Store, batch_id: str) -> list[str]:
    """Tiers in which tasks of a batch wait and nobody works."""
    with store.reading() as connection:
        waiting = {tier for tier, state in reading.states_by_tier(connection, batch_id) if state == "queued"}
        return sorted(waiting - set(leases.live_workers(connection)))


def _finish(order: Order, checked: Checked, settings: Settings, progress: Progress, began: float) -> Summary:
    failures = write_outcomes(settings, progress.batch_id, order.output)
    with batches.open_store(settings) as store:
        models = spending.by_model(store, progress.batch_id)
    return Summary(
        progress=progress,
        models=models,
        failures=failures,
        set_aside=checked.bad,
        bad_path=order.job.bad_path,
        seconds=time.monotonic() - began,
        output=order.output,
    )


def write_outcomes(settings: Settings, batch_id: str, output: Path) -> Failures:
    """Writes a batch's outcomes in the order of its tasks; what went wrong, by cause."""
    failures = Failures()
    with Client(settings=settings) as client, writing(output) as writer:
        for outcome in client.batch(batch_id).outcomes():
            writer.write(row_of(outcome))
            failures.add(outcome)
    return failures
