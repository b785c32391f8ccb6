"""The engine: one long-lived event loop a worker process, which runs the tasks of all its chunks concurrently."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from tierq_shared.ids import new_id
from tierq_shared.queues import BrokerDown, Chunk, Publisher
from tierq_shared.settings import Settings
from tierq_shared.store import leases, sweeps
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.connection import Store
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Step
from tierq_workers.admission import Admission, Entry
from tierq_workers.announcer import Announcer
from tierq_workers.execution import TaskRun
from tierq_workers.following import Following
from tierq_workers.lease import Lease
from tierq_workers.permits.keeper import Keeper
from tierq_workers.progress import Delivery, Progress
from tierq_workers.recorder import Group, Recorder, Result
from tierq_workers.runtime import PermittedAttempt, TierRuntime
from tierq_workers.starting import check_store
from tierq_workers.sweeper import Sweeper
from tierq_workers.transport import Transport

log = logging.getLogger("tierq.worker")

EX_SOFTWARE = 70
"""The exit code of an internal error (BSD sysexits.h)."""

RECEIVERS = 4
"""Celery threads that receive chunks. One of them is never held for longer than `worker.hold`, so that an interactive
chunk is received soon however many others wait."""

_LONGEST_HOLDS = 10
"""How many times `worker.hold` any chunk is kept: then another worker may be less busy."""

_LEAST_REST_S = 1.0
"""Tasks that cannot run now are not looked at more often than this, whatever the reason."""


class Engine:
    """Everything of one worker process that runs on its event loop. Made and stopped by the Celery worker."""

    def __init__(self, settings: Settings, tier: str, release: str, progress: Progress, publisher: Publisher) -> None:
        self._settings = settings
        self._tier = tier
        self._progress = progress
        self._publisher = publisher
        self._store = Store(settings.database_url.get_secret_value() if settings.database_url else "")
        check_store(self._store)
        state_url = settings.state_url.get_secret_value() if settings.state_url else None
        self._announcer = Announcer(state_url)
        self._sweeper = Sweeper(self._store, publisher, settings.worker, self._announcer.announce, settings.shadow)
        # The recorder has a thread of its own: nothing may stand between outcomes and their commit.
        self._recording = ThreadPoolExecutor(1, thread_name_prefix="tierq-recorder")
        self._chores = ThreadPoolExecutor(4, thread_name_prefix="tierq-chores")
        seconds, rest_s = settings.worker.lease, lambda: self._runtime.chain.rest_s()
        self._lease = Lease(self._store, self._chores, tier, release, seconds, self._cancel_runs, rest_s)
        self._runs: dict[asyncio.Task[None], TaskRun] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._draining = False
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tierq-engine", daemon=True)

    # What the Celery worker calls, from its threads.

    def start(self) -> None:
        """Begins to work: takes a lease, then chunks."""
        self._thread.start()
        self._call(self._begin())

    def accept(self, message: dict[str, Any]) -> None:
        """Takes a chunk on; returns when each of its ids is claimed or needs no claim, or what is left went back."""
        self._call(self._admit(Chunk.from_message(message)))

    def marker(self, message: dict[str, Any]) -> None:
        """A marker came through."""
        at = datetime.fromisoformat(message["at"])
        self._store.write(
            partial(sweeps.marker_received, tier=message["tier"], priority=message["priority"], published_at=at)
        )

    def drain(self) -> None:
        """No new work from now on; chunks that wait for slots go back at once."""
        self._draining = True
        self._loop.call_soon_threadsafe(self._close_entries)

    def stop(self) -> None:
        """Lets calls finish within the grace time, hands the rest back, and ends."""
        self._draining = True
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._recording.shutdown()
        self._chores.shutdown()
        self._announcer.close()
        self._store.close()

    # What runs on the loop.

    async def _begin(self) -> None:
        self._transport = Transport(max_response_bytes=self._settings.worker.max_response_bytes)
        self._runtime = TierRuntime(self._settings, self._tier, self._transport, holder=new_id())
        self._recorder = Recorder(
            self._store,
            self._recording,
            self._tier,
            worker_id=lambda: self._lease.worker_id,
            learn=self._runtime.learn,
            choose=self._runtime.first_attempt,
            on_commit=self._after_commit,
            on_lease_lost=self._lease.replace,
            caps=[rule.cap for rule in self._settings.caps],
        )
        slots = self._settings.tiers[self._tier].max_in_flight
        self._admission = Admission(slots, self._recorder.wake, self._runtime.chain.room)
        self._recorder.admission = self._admission
        self._keeper = self._make_keeper()
        self._following = Following(self._settings, self._store, self._runtime, self._in_thread, self._publish)
        await self._following.refresh()
        await self._lease.begin()
        await self._keeper.sync()
        self._services = [
            asyncio.create_task(service)
            for service in (
                self._recorder.run(),
                self._lease.keep(),
                self._keeper.run(),
                self._following.keep(),
                self._sweep_for_ever(),
            )
        ]
        for service in self._services:
            service.add_done_callback(_end_process)

    def _make_keeper(self) -> Keeper:
        return Keeper(
            self._runtime.desk,
            self._settings.state_url.get_secret_value() if self._settings.state_url else None,
            waiting=lambda: self._admission.waiting,
            is_busy=lambda: bool(self._runs),
            processes=lambda: self._in_thread(self._count_workers),
            on_change=self._recorder.wake,
        )

    def _count_workers(self) -> int:
        with self._store.reading() as connection:
            return sum(leases.live_workers(connection).values())

    async def _admit(self, chunk: Chunk) -> None:
        if self._draining:
            self._give_back(chunk, 0.0)
            return
        delivery = self._deliveries[chunk.id] = Delivery(chunk)
        entry = self._admission.enter(chunk)
        self._keeper.wake()
        await self._hold(entry)
        entry.closing = True
        # A claim of it may be under way; what comes of it decides what is left.
        await entry.settled.wait()
        self._admission.leave(entry)
        self._deliveries.pop(chunk.id, None)
        self._progress.closed(delivery, len(entry.unclaimed))
        if entry.unclaimed:
            self._give_back(replace(chunk, task_ids=entry.unclaimed), self._rest_of(entry))

    async def _hold(self, entry: Entry) -> None:
        """Keeps a chunk while it waits for slots or permits, for as long as a fresh one would find a free receiver."""
        hold = self._settings.worker.hold
        for _ in range(_LONGEST_HOLDS):
            await asyncio.wait({entry.done}, timeout=hold)
            if entry.done.done() or self._admission.is_last_of(entry, RECEIVERS):
                return
            if self._runtime.chain.rest_s() > hold:
                return

    def _rest_of(self, entry: Entry) -> float:
        """When what is left of a chunk is due: at once, or when the deployment chain has rested."""
        if self._draining:
            return 0.0
        rest_s = self._runtime.chain.rest_s()
        could_run = bool(entry.waiting) and rest_s < _LEAST_REST_S
        return 0.0 if could_run else max(_LEAST_REST_S, rest_s, self._admission.wait_of(entry))

    def _give_back(self, chunk: Chunk, after_s: float) -> None:
        """Back to the broker; while the chain rests, by way of the sweeper when it is due."""
        self._recorder.hand_back(chunk.id, after_s)
        if not after_s:
            self._publish([chunk])

    def _publish(self, chunks: list[Chunk]) -> None:
        async def publish() -> None:
            try:
                await self._in_thread(self._publisher.publish, chunks)
            except BrokerDown as error:
                log.warning("the broker did not take %d chunks (%s); the sweeper publishes them", len(chunks), error)
            else:
                self._recorder.published(chunk.id for chunk in chunks)

        self._in_background(publish())

    def _after_commit(self, group: Group, result: Result) -> None:
        """A commit is through: claimed tasks begin, waiting producers hear, escalated chunks are published."""
        for task, attempt in result.claims.taken:
            # As the runtime chose it.
            self._start(task, cast("PermittedAttempt", attempt))
        if result.committed.chunks:
            self._publish(result.committed.chunks)
        without_call = [*result.claims.refused, *result.claims.answered]
        ended = [(task.batch_id, task.position) for task, _ in without_call]
        for step, counted in zip(group.steps, result.committed.counted, strict=True):
            if isinstance(step.next, NewAttempt) and counted:
                continue
            self._progress.ended(step.task_id, _fate(step, counted=counted))
            if counted and isinstance(step.next, Ended) and step.next.state == "succeeded":
                self._following.succeeded(step.task_id)
            # A batch that was cancelled ends tasks which were to be called again.
            if isinstance(step.next, Ended | NewAttempt):
                ended.append((step.batch_id, step.position))
        if ended:
            self._chores.submit(self._announcer.announce, ended)

    def _start(self, task: ClaimedTask, attempt: PermittedAttempt) -> None:
        delivery = self._deliveries.get(task.chunk_id or "")
        if delivery is not None:
            self._progress.claimed(delivery, task.id)
        run = TaskRun(self._runtime, task, attempt, self._runtime.kinds[task.spec_id], self._recorder.record)
        running = asyncio.create_task(self._run(run))
        self._runs[running] = run
        running.add_done_callback(self._ended)

    async def _run(self, run: TaskRun) -> None:
        try:
            step = await run.run()
        except asyncio.CancelledError:
            step = run.given_up("the worker stopped while the call was under way")
        except Exception as error:
            # A bug in an adapter or in the engine must cost one task, not the worker; the message stays out of the row.
            log.exception("task %s failed inside the worker", run.task.id)
            step = run.broken(type(error).__name__)
        if step is not None:
            self._recorder.add(step)

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._runs.pop(running, None)
        self._admission.release()

    def _cancel_runs(self) -> None:
        for running in list(self._runs):
            running.cancel()

    def _close_entries(self) -> None:
        for entry in list(self._admission.entries):
            entry.closing = True
            if not entry.done.done():
                entry.done.set_result(None)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.worker.sweep_every)
            await self._in_thread(self._sweeper.sweep, self._lease.worker_id)

    async def _finish(self) -> None:
        self._close_entries()
        if self._runs:
            await asyncio.wait(set(self._runs), timeout=self._settings.worker.grace)
        self._cancel_runs()
        while self._runs or self._background or not self._recorder.is_idle:
            under_way = {*self._runs, *self._background}
            await (asyncio.wait(under_way) if under_way else self._recorder.commit_done.wait())
            await asyncio.sleep(0)
        self._keeper.stop()
        for service in self._services:
            service.remove_done_callback(_end_process)
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        await self._recorder.commit_pending()
        await self._keeper.aclose()
        await self._lease.end()
        await self._transport.aclose()
        self._progress.stop()

    # Threads and the loop.

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await self._loop.run_in_executor(self._chores, partial(work, *args))

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _fate(step: Step, *, counted: bool) -> str:
    """What became of a task, in the word that Flower shows."""
    if not counted:
        return "taken over"
    if isinstance(step.next, Ended):
        return step.next.state
    return "escalated" if getattr(step.next, "reason", None) else "queued again"


def _end_process(service: asyncio.Task[None]) -> None:
    """A worker whose recorder, lease or sweeper died must not live on and hold its tasks: it ends, others take over."""
    if not service.cancelled() and service.exception() is not None:
        log.critical("a service of the worker ended; the process ends", exc_info=service.exception())
        logging.shutdown()
        os._exit(EX_SOFTWARE)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
