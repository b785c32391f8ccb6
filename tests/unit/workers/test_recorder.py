"""Group commit: rows that the store refuses stand alone, broken connections lose nothing, lost leases claim nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import DataError, OperationalError

from tierq_shared.queues import Chunk
from tierq_shared.store.connection import Store
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_shared.store.tables import attempts, chunks, payloads, tasks, workers
from tierq_workers import recorder as recording
from tierq_workers.admission import Admission
from tierq_workers.recorder import Group, Recorder, Result
from unit.store.installation import FAILED, SUCCEEDED, Installation, learn_nothing, new_attempt, new_task, step


@pytest.fixture(autouse=True)
def tries_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RETRY_S", 0.01)


class Desk:
    """A recorder with the parts around it, and what it reported."""

    def __init__(self, here: Installation, slots: int = 100) -> None:
        self.here = here
        self.worker = here.worker()
        self.executor = ThreadPoolExecutor(1)
        self.commits: list[tuple[Group, Result]] = []
        self.lost = 0
        self.recorder = Recorder(
            here.store,
            self.executor,
            "small",
            worker_id=lambda: self.worker,
            learn=learn_nothing,
            choose=new_attempt,
            on_commit=lambda group, result: self.commits.append((group, result)),
            on_lease_lost=self._replace,
        )
        self.admission = Admission(slots, self.recorder.wake)
        self.recorder.admission = self.admission

    async def _replace(self) -> None:
        self.lost += 1
        self.worker = self.here.worker()

    def receive(self, batch_id: str) -> list[Any]:
        """The batch's chunks come in from the broker."""
        return [
            self.admission.enter(Chunk(row.id, batch_id, row.tier, row.priority, self._ids(row.id)))
            for row in self.here.chunks(batch_id)
        ]

    def _ids(self, chunk_id: str) -> list[str]:
        return [row.id for row in self.here.rows(tasks, tasks.c.chunk_id == chunk_id, order=tasks.c.position)]

    @property
    def claimed(self) -> list[str]:
        return [task.id for _, result in self.commits for task, _ in result.claims.taken]


@asynccontextmanager
async def desk(here: Installation, slots: int = 100) -> AsyncIterator[Desk]:
    one = Desk(here, slots)
    running = asyncio.create_task(one.recorder.run())
    try:
        yield one
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        one.executor.shutdown()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is in the store, where no event is set
            await asyncio.sleep(0.005)


def running(here: Installation, worker: str, count: int) -> list[Any]:
    return here.claim(worker, here.ids(here.submit([new_task() for _ in range(count)]))).taken


def refuse(store: Store, spoiled: str) -> None:
    """The store refuses every row that holds this text, as PostgreSQL does NUL."""

    @event.listens_for(store.engine, "before_cursor_execute")
    def check(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if spoiled in str(parameters):
            raise DataError(statement, None, ValueError("a row is refused"))


# Claims.


async def test_a_received_chunk_is_claimed_and_its_row_forgotten(here: Installation) -> None:
    batch = here.submit([new_task() for _ in range(3)])
    async with desk(here) as one:
        (entry,) = one.receive(batch)
        await asyncio.wait_for(entry.done, 10)
        await until(lambda: one.commits)
    assert sorted(one.claimed) == sorted(here.ids(batch))
    assert here.count(chunks) == 0


async def test_a_chunk_without_free_slots_is_noted_as_received(here: Installation) -> None:
    batch = here.submit([new_task() for _ in range(3)])
    async with desk(here, slots=2) as one:
        one.receive(batch)
        await until(lambda: one.commits)
        (row,) = here.chunks(batch)
        assert (row.received_at is not None, row.worker_id) == (True, one.worker)
        one.admission.release(2)
        await until(lambda: len(one.claimed) == 3)
    assert here.count(chunks) == 0


async def test_a_lost_lease_claims_nothing_and_the_next_incarnation_does(here: Installation) -> None:
    batches = [here.submit([new_task() for _ in range(2)]) for _ in range(3)]
    async with desk(here) as one:
        here.kill(one.worker)
        before = one.worker
        for batch in batches:
            one.receive(batch)
        await until(lambda: len(one.claimed) == 6)
        assert one.lost == 1
    assert here.count(tasks, tasks.c.worker_id == before) == 0
    assert here.count(tasks, tasks.c.worker_id == one.worker) == 6
    assert one.admission.in_use == 6


async def test_outcomes_are_kept_when_the_lease_is_lost_with_a_claim_beside_them(here: Installation) -> None:
    async with desk(here) as one:
        (taken,) = running(here, one.worker, 1)
        here.kill(one.worker)
        one.receive(here.submit([new_task()]))
        assert await asyncio.wait_for(one.recorder.record(step(taken, SUCCEEDED)), 10)
        await until(lambda: one.claimed)
    assert here.task(taken[0].id).state == "succeeded"


# Refused rows.


@pytest.mark.parametrize("bad", [0, 3, 7])
async def test_a_row_that_the_store_refuses_stands_alone(here: Installation, bad: int) -> None:
    async with desk(here) as one:
        taken = running(here, one.worker, 8)
        refuse(here.store, "spoiled")
        outputs = ["spoiled" if number == bad else "fine" for number in range(8)]
        verdicts = await asyncio.wait_for(
            asyncio.gather(
                *(
                    one.recorder.record(step(each, Ended("succeeded", output=output)))
                    for each, output in zip(taken, outputs, strict=True)
                )
            ),
            10,
        )
    assert verdicts == [True] * 8
    states = [here.task(task.id).state for task, _ in taken]
    assert states == ["failed" if number == bad else "succeeded" for number in range(8)]
    row = here.task(taken[bad][0].id)
    assert (row.error_code, row.cost_nusd) == ("unrecordable", 10)
    assert here.one(payloads, payloads.c.task_id == row.id).output is None
    assert here.ledger(row.id)[0].cost_nusd == 10
    assert here.progress(row.batch_id).done == 8


async def test_claims_beside_a_refused_row_go_through(here: Installation) -> None:
    async with desk(here) as one:
        (taken,) = running(here, one.worker, 1)
        refuse(here.store, "spoiled")
        batch = here.submit([new_task()])
        one.receive(batch)
        await asyncio.wait_for(one.recorder.record(step(taken, Ended("succeeded", output="spoiled"))), 10)
        await until(lambda: one.claimed)
    assert one.claimed == here.ids(batch)


async def test_a_task_that_failed_in_the_store_makes_no_further_call(here: Installation) -> None:
    """The step before a further attempt is refused: its task has failed, and whoever runs it must hear so."""
    async with desk(here) as one:
        (taken,) = running(here, one.worker, 1)
        refuse(here.store, "spoiled")
        following = step(taken, new_attempt(taken[0], ordinal=2), outcome="spoiled", cost=0)
        verdict = one.recorder.record(_with_error(following, "spoiled"))
        assert await asyncio.wait_for(verdict, 10) is False
    assert here.task(taken[0].id).state == "failed"


def _with_error(one: Step, error: str) -> Step:
    assert one.result is not None
    return replace(one, result=replace(one.result, error=error, outcome="overloaded"))


async def test_a_row_that_is_refused_even_without_its_answer_ends_the_recorder_and_not_the_stack(
    here: Installation,
) -> None:
    """What cannot be written at all must surface as the store's error, not as endless splitting."""
    one = Desk(here)
    (taken,) = running(here, one.worker, 1)
    refuse(here.store, taken[1].id)
    one.recorder.add(step(taken, SUCCEEDED))
    with pytest.raises(DataError):
        await asyncio.wait_for(one.recorder.run(), 10)
    one.executor.shutdown()


# Connections that break.


class Breaking:
    """Makes one commit break: before it reaches the store, or when its answer is on the way back."""

    def __init__(self, store: Store, *, reached: bool) -> None:
        self.left = 1
        write_once = store.write_once

        def broken(work: Callable[[Connection], Any]) -> Any:
            if not self.left:
                return write_once(work)
            self.left -= 1
            if reached:
                write_once(work)
                raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

            def rolled_back(connection: Connection) -> None:
                work(connection)
                raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

            return write_once(rolled_back)

        store.write_once = broken  # type: ignore[method-assign]


@pytest.mark.parametrize("reached", [True, False])
async def test_a_claim_whose_connection_broke_is_known_by_its_attempts(here: Installation, reached: bool) -> None:
    batch = here.submit([new_task() for _ in range(3)])
    async with desk(here) as one:
        entries = one.receive(batch)
        Breaking(here.store, reached=reached)
        await asyncio.wait_for(asyncio.gather(*(entry.done for entry in entries)), 10)
        await until(lambda: one.commits)
    assert sorted(one.claimed) == sorted(here.ids(batch))
    assert here.count(attempts) == 3
    written = {attempt.id for _, result in one.commits for _, attempt in result.claims.taken}
    assert written == {row.id for row in here.rows(attempts)}
    assert {here.task(id_).epoch for id_ in here.ids(batch)} == {1}


@pytest.mark.parametrize("reached", [True, False])
async def test_outcomes_whose_connection_broke_count_once(here: Installation, reached: bool) -> None:
    async with desk(here) as one:
        taken = running(here, one.worker, 4)
        steps = [
            step(taken[0], SUCCEEDED),
            step(taken[1], FAILED),
            step(taken[2], Requeued("medium", reason="up")),
            step(taken[3], new_attempt(taken[3][0], ordinal=2), outcome="overloaded"),
        ]
        Breaking(here.store, reached=reached)
        verdicts = await asyncio.wait_for(asyncio.gather(*(one.recorder.record(each) for each in steps)), 10)
    assert verdicts == [True] * 4
    assert [here.task(task.id).state for task, _ in taken] == ["succeeded", "failed", "queued", "running"]
    assert here.progress(taken[0][0].batch_id).done == 2
    assert [len(here.ledger(task.id)) for task, _ in taken] == [1, 1, 1, 2]


@pytest.mark.parametrize("reached", [True, False])
async def test_stored_answers_whose_connection_broke_count_once_and_are_announced(
    here: Installation, reached: bool
) -> None:
    """No attempt tells whether such a claim came through: it is written again, and finds nothing the second time."""
    worker, allowed = here.worker(), '{"cache":true}'
    (source,) = here.ids(here.submit([new_task(constraints=allowed)]))
    here.commit(worker, step(here.claim_one(worker, source), SUCCEEDED))
    batch = here.submit([new_task(constraints=allowed) for _ in range(3)])
    async with desk(here) as one:
        entries = one.receive(batch)
        Breaking(here.store, reached=reached)
        await asyncio.wait_for(asyncio.gather(*(entry.done for entry in entries)), 10)
        await until(lambda: one.commits)
        told = [task.id for _, result in one.commits for task, _ in result.claims.answered]
        assert sorted(told) == sorted(here.ids(batch))
        assert (one.claimed, one.admission.in_use) == ([], 0)
    assert here.count(tasks, tasks.c.cached_from == source, tasks.c.state == "succeeded") == 3
    progress = here.progress(batch)
    assert (progress.state, progress.done, progress.cost_nusd) == ("finished", 3, 0)
    assert here.count(chunks, chunks.c.batch_id == batch) == 0


async def test_a_swept_workers_answers_survive_a_broken_commit(here: Installation) -> None:
    """Its attempts were called unknown meanwhile: that says nothing about whether the commit came through."""
    async with desk(here) as one:
        (taken,) = running(here, one.worker, 1)
        here.kill(one.worker)
        here.settle(one.worker)
        Breaking(here.store, reached=False)
        assert not await asyncio.wait_for(one.recorder.record(step(taken, SUCCEEDED, cost=33)), 10)
    (attempt,) = here.ledger(taken[0].id)
    assert (attempt.outcome, attempt.cost_nusd) == ("succeeded", 33)


async def test_a_late_step_beside_others_does_not_hide_that_their_commit_came_through(here: Installation) -> None:
    """Its further attempt was never written, and must not be looked for."""
    async with desk(here) as one:
        former = here.worker()
        (late,), (own,) = running(here, former, 1), running(here, one.worker, 1)
        here.kill(former)
        here.settle(former)
        Breaking(here.store, reached=True)
        steps = step(late, new_attempt(late[0], ordinal=2), outcome="overloaded"), step(own, SUCCEEDED)
        verdicts = await asyncio.wait_for(asyncio.gather(*(one.recorder.record(each) for each in steps)), 10)
    assert verdicts == [False, True]


async def test_a_store_that_is_away_for_long_loses_nothing(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(here) as one:
        (taken,) = running(here, one.worker, 1)
        write, failures = here.store.write, iter(range(20))

        def away(work: Callable[[Connection], Any]) -> Any:
            if next(failures, None) is not None:
                raise OperationalError("BEGIN", None, Exception("connection refused"))
            return write(work)

        monkeypatch.setattr(here.store, "write", away)
        assert await asyncio.wait_for(one.recorder.record(step(taken, SUCCEEDED)), 10)
    assert here.task(taken[0].id).state == "succeeded"


async def test_hand_backs_and_publications_are_written(here: Installation) -> None:
    first, second = here.submit([new_task()]), here.submit([new_task()])
    (one_chunk,), (other_chunk,) = here.chunks(first), here.chunks(second)
    async with desk(here) as one:
        one.recorder.hand_back(one_chunk.id, 30.0)
        one.recorder.published([other_chunk.id])
        await until(lambda: here.chunks(second)[0].published_at)
        await until(lambda: here.chunks(first)[0].not_before)
    assert here.count(workers) == 1


def test_errors_are_named_without_their_text() -> None:
    error = OperationalError("INSERT", None, ValueError("the row's secret"))
    assert recording._name(error) == "ValueError"
