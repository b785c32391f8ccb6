"""The engine: one long-lived event loop a worker process, which runs the tasks of all its chunks concurrently."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from tierq_shared.active_policy import ActivePolicy
from tierq_shared.ids import new_id
from tierq_shared.queues import BrokerDown, Chunk, Publisher
from tierq_shared.settings import Settings
from tierq_shared.store import leases, sweeps
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import Controls
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended
from tierq_shared.webhooks import read_endpoints
from tierq_workers.admission import Admission, Entry
from tierq_workers.announcer import Announcer
from tierq_workers.execution import TaskRun
from tierq_workers.fates import TAKEN_OVER, fate_of
from tierq_workers.following import Following
from tierq_workers.lease import Lease
from tierq_workers.observers.base import NOBODY, Observer
from tierq_workers.permits.keeper import Keeper, let_go
from tierq_workers.process import end_process, new_loop
from tierq_workers.progress import Delivery, Progress
from tierq_workers.recorder import Group, Recorder, Result
from tierq_workers.reloading import note_reload, reloaded
from tierq_workers.runtime import PermittedAttempt, TierRuntime
from tierq_workers.starting import check_store
from tierq_workers.steering import PUT_OFF_S, Steering
from tierq_workers.sweeper import Sweeper
from tierq_workers.transport import Transport
from tierq_workers.vitals import Phase, Pulse, Vitals
from tierq_workers.webhooks import Deliveries

log = logging.getLogger("tierq.worker")

RECEIVERS = 4
"""Celery threads that receive chunks. One of them is never held for longer than `worker.hold`, so that an interactive
chunk is received soon however many others wait."""

_LONGEST_HOLDS = 10
"""How many times `worker.hold` any chunk is kept: then another worker may be less busy."""

_LEAST_REST_S = 1.0
"""Tasks that cannot run now are not looked at more often than this, whatever the reason."""


class Engine:
    """Everything of one worker process that runs on its event loop. Made and stopped by the Celery worker."""

    def __init__(
        self,
        settings: Settings,
        tier: str,
        release: str,
        progress: Progress,
        publisher: Publisher,
        observer: Observer = NOBODY,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._tier = tier
        self._progress = progress
        self._publisher = publisher
        self._endpoints = read_endpoints(settings.webhooks)
        self._store = Store(settings.database_url.get_secret_value() if settings.database_url else "")
        check_store(self._store)
        state_url = settings.state_url.get_secret_value() if settings.state_url else None
        self._announcer = Announcer(state_url)
        self._sweeper = Sweeper(
            self._store,
            publisher,
            settings.worker,
            self._announcer.announce,
            settings.shadow,
            observer,
            self._endpoints,
            settings.retention,
        )
        # The recorder has a thread of its own: nothing may stand between outcomes and their commit.
        self._recording = ThreadPoolExecutor(1, thread_name_prefix="tierq-recorder")
        self._chores = ThreadPoolExecutor(4, thread_name_prefix="tierq-chores")
        seconds, rest_s = settings.worker.lease, lambda: self._runtime.rest_s()
        self._lease = Lease(self._store, self._chores, tier, release, seconds, self._cancel_runs, rest_s)
        self._runs: dict[asyncio.Task[None], TaskRun] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._draining = False
        self._pulse = Pulse()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tierq-engine", daemon=True)

    # What the Celery worker calls, from its threads.

    def start(self) -> None:
        """Begins to work: takes a lease, then chunks."""
        self._observer.begins(self._store, self.vitals)
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

    def reload(self) -> None:
        """Takes up the configuration file as it is now; calls under way end as they began."""
        self._loop.call_soon_threadsafe(lambda: self._in_background(self._reload()))

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

    def vitals(self) -> Vitals:
        """How it fares now; for any thread, also while the loop stalls."""
        phase = Phase.DRAINING if self._draining else Phase.WORKING if self._lease.worker_id else Phase.STARTING
        runs, pulse = len(self._runs), self._pulse
        return Vitals(self._tier, phase, self._settings, runs, pulse.silent_s(), pulse.lag_s(), self._lease.left_s())

    # What runs on the loop.

    async def _begin(self) -> None:
        self._services = [asyncio.create_task(self._pulse.keep())]
        self._transport = Transport(max_response_bytes=self._settings.worker.max_response_bytes)
        self._runtime: TierRuntime = self._make_runtime(self._settings)
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
            observer=self._observer,
        )
        slots = self._settings.tiers[self._tier].max_in_flight
        self._admission = Admission(slots, self._recorder.wake, lambda: self._runtime.room())
        self._recorder.admission = self._admission
        self._keeper = self._make_keeper(self._runtime)
        self._following = Following(self._settings, self._store, self._runtime, self._in_thread, self._publish)
        self._steering = Steering(self._store, self._in_thread, self._steer)
        await self._following.refresh()
        await self._steering.refresh()
        await self._lease.begin()
        await self._keeper.sync()
        self._services += [
            asyncio.create_task(service)
            for service in (
                self._recorder.run(),
                self._lease.keep(),
                self._keeper.run(),
                self._following.keep(),
                self._steering.keep(),
                self._sweep_for_ever(),
                Deliveries(self._endpoints, self._store, self._in_thread).keep(),
            )
        ]
        for service in self._services:
            service.add_done_callback(end_process)

    def _make_runtime(self, settings: Settings) -> TierRuntime:
        return TierRuntime(settings, self._tier, self._transport, holder=new_id(), observer=self._observer)

    def _make_keeper(self, runtime: TierRuntime) -> Keeper:
        return Keeper(
            runtime.desk,
            self._settings.state_url.get_secret_value() if self._settings.state_url else None,
            waiting=lambda: self._admission.waiting if runtime is self._runtime else 0,
            is_busy=lambda: bool(self._runs),
            processes=lambda: self._in_thread(self._count_workers),
            on_change=self._recorder.wake,
        )

    def _count_workers(self) -> int:
        with self._store.reading() as connection:
            return sum(leases.live_workers(connection).values())

    async def _admit(self, chunk: Chunk) -> None:
        chunk, published = self._steering.priority_of(chunk), chunk
        is_held = self._steering.controls.holds(chunk)
        # One that comes before its turn goes back to where its new priority puts it.
        if self._draining or is_held or chunk.priority < published.priority:
            self._give_back(chunk, PUT_OFF_S if is_held and not self._draining else 0.0)
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
            self._give_back(replace(entry.chunk, task_ids=entry.unclaimed), self._rest_of(entry))

    async def _hold(self, entry: Entry) -> None:
        """Keeps a chunk while it waits for slots or permits, for as long as a fresh one would find a free receiver."""
        hold = self._settings.worker.hold
        for _ in range(_LONGEST_HOLDS):
            await asyncio.wait({entry.done}, timeout=hold)
            if entry.done.done() or self._admission.is_last_of(entry, RECEIVERS):
                return
            if self._runtime.rest_s() > hold:
                return

    def _rest_of(self, entry: Entry) -> float:
        """When what is left of a chunk is due: at once, or when the deployment chain has rested."""
        if self._draining:
            return 0.0
        rest_s = self._runtime.rest_s()
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

    def _steer(self, before: Controls, after: Controls) -> None:
        """Operators have set something else."""
        self._runtime.steer(after)
        if before.priorities != after.priorities:
            self._admission.prioritise(self._steering.priority_of)
        # Others may have put chunks off after the pause had ended, not having seen that yet; and so may this one.
        self._recorder.resume(after.resumed_since(before))
        self._keeper.wake()

    async def _reload(self) -> None:
        settings = await self._in_thread(reloaded, self._settings, self._tier)
        if settings is None:
            return
        runtime = self._make_runtime(settings)
        keeper = self._make_keeper(runtime)
        runtime.follow(await self._in_thread(ActivePolicy(settings, self._store).current))
        await keeper.sync()
        self._recorder.between_commits(partial(self._take_up, settings, runtime, keeper))
        await self._in_thread(note_reload, self._store, self._tier)

    def _take_up(self, settings: Settings, runtime: TierRuntime, keeper: Keeper) -> None:
        """From here on tasks are claimed by another configuration. No claim is under way at this moment."""
        former, self._keeper = self._keeper, keeper
        runtime.kinds.update(self._runtime.kinds)
        runtime.steer(self._steering.controls)
        self._settings, self._runtime = settings, runtime
        self._recorder.follow(runtime.learn, runtime.first_attempt, [rule.cap for rule in settings.caps])
        self._following.take_up(settings, runtime)
        self._admission.resize(settings.tiers[self._tier].max_in_flight)
        service = asyncio.create_task(keeper.run())
        service.add_done_callback(end_process)
        self._services.append(service)
        self._in_background(let_go(former, set(self._runs)))
        log.warning("SIGHUP: the configuration of %s is followed from now on", settings.path)

    def _after_commit(self, group: Group, result: Result) -> None:
        """A commit is through: claimed tasks begin, waiting producers hear, escalated chunks are published."""
        for task, attempt in result.claims.taken:
            # As the runtime chose it.
            self._start(task, cast("PermittedAttempt", attempt))
        if result.committed.chunks:
            self._publish(result.committed.chunks)
        without_call = [*result.claims.refused, *result.claims.answered]
        ended = [(task.batch_id, task.position) for task, _ in without_call]
        for task, _ in result.claims.refused:
            self._observer.ended(task, "failed")
        for task, _ in result.claims.answered:
            self._observer.ended(task, "succeeded")
        for step, counted in zip(group.steps, result.committed.counted, strict=True):
            if isinstance(step.next, NewAttempt) and counted:
                continue
            self._progress.ended(step.task_id, fate_of(step, counted=counted))
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
        self._observer.claimed(task, attempt)
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
            ids = {"task_id": run.task.id, "batch_id": run.task.batch_id}
            log.exception("task %s failed inside the worker", run.task.id, extra=ids)
            step = run.broken(type(error).__name__)
        if step is None:
            self._observer.ended(run.task, TAKEN_OVER)
        else:
            self._recorder.add(step, lambda counted: self._observer.ended(run.task, fate_of(step, counted=counted)))

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
            service.remove_done_callback(end_process)
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        await self._recorder.commit_pending()
        await self._keeper.aclose()
        await self._lease.end()
        await self._transport.aclose()
        self._progress.stop()
        await self._in_thread(self._observer.close)

    # Threads and the loop.

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await self._loop.run_in_executor(self._chores, partial(work, *args))

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
