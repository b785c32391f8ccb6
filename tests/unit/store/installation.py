"""An installation without processes: a store, and the rows that submitters, workers and sweepers would make of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from tierq_shared.caps import Cap
from tierq_shared.ids import new_id
from tierq_shared.money import Usage
from tierq_shared.policy import Decision, Signals
from tierq_shared.specs import SpecBody
from tierq_shared.store import claims, leases, outcomes, reading, submission, sweeps
from tierq_shared.store.claims import ClaimedTask, Claims
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_shared.store.outcomes import Committed, Ended, Requeued, Step
from tierq_shared.store.submission import NewBatch, NewTask, Slice
from tierq_shared.store.tables import attempts, batches, budgets, chunks, metadata, tallies, tasks, workers
from tierq_shared.store.tallies import finish_batches

SPEC = SpecBody(type="classify", name="triage", labels={"bug": None, "billing": None})
RESERVED = 1_000
"""What an attempt reserves here, in nano-USD."""

Taken = tuple[ClaimedTask, NewAttempt]


def new_task(key: str | None = None, text: str = "the text", *, tier: str = "small", **fields: Any) -> NewTask:
    """A prepared task."""
    input_json = f'{{"text":"{text}"}}'
    signals = Signals("classify", SPEC.name, 5, "normal", "standard")
    values: dict[str, Any] = {
        "priority": 5,
        "urgency": "standard",
        "tags": None,
        "deadline": None,
        "constraints": None,
    } | fields
    return NewTask(
        key=key,
        spec=SPEC,
        payload_hash=hashlib.sha256(input_json.encode()).hexdigest()[:32],
        input_json=input_json,
        decision=Decision(tier, "rule 1", signals, "config-1"),
        **values,
    )


def learn_nothing(_connection: Any, _spec_ids: set[str]) -> None:
    """A claimer that has no use for specs."""


def new_batch(key: str | None = None, *, streaming: bool = False, **fields: Any) -> NewBatch:
    values: dict[str, Any] = {"label": None, "tags": None, "deadline": None} | fields
    return NewBatch(id=new_id(), key=key, streaming=streaming, **values)


def new_attempt(task: ClaimedTask, *, ordinal: int | None = None, reserved: int | None = RESERVED) -> NewAttempt:
    """An attempt as a worker writes it ahead of its call."""
    return NewAttempt(
        id=new_id(),
        task_id=task.id,
        epoch=task.epoch,
        ordinal=ordinal or task.attempts + 1,
        tier=task.tier,
        deployment="mini",
        provider="openai",
        model="gpt-4o-mini",
        lane="call",
        reserved_nusd=reserved,
        price_version="list 1",
        caps=task.caps,
    )


def step(
    taken: Taken,
    next_: Ended | Requeued | NewAttempt,
    *,
    cost: int | None = 10,
    outcome: str = "succeeded",
    usage: Usage | None = None,
) -> Step:
    """What a worker records for a claim's attempt that cost this much."""
    task, attempt = taken
    total = None if task.cost_nusd is None or cost is None else task.cost_nusd + cost
    result = AttemptResult(
        attempt.id, outcome, 5, 200, "req-1", usage or Usage(10, 0, 0, 3, 0), cost, is_capped=bool(attempt.caps)
    )
    return Step(task.id, task.batch_id, task.position, task.tier, task.epoch, task.priority, total, result, next_)


SUCCEEDED = Ended("succeeded", output='"bug"')
FAILED = Ended("failed", error_code="refused", error="declined")


@dataclass
class Installation:
    """A migrated store and short names for what is done to it."""

    store: Store

    def submit(self, new: Sequence[NewTask], *, key: str | None = None, **fields: Any) -> str:
        """A sealed batch of these tasks; its id."""
        batch = new_batch(key, **fields)

        def work(connection: Any) -> None:
            submission.insert_batch(connection, batch, total=len(new))
            submission.insert_slice(connection, batch.id, 0, new, fresh=True)

        self.store.write(work)
        return batch.id

    def open(self, key: str | None = None, *, streaming: bool = False) -> str:
        batch = new_batch(key, streaming=streaming)
        self.store.write(lambda connection: submission.insert_batch(connection, batch, total=None))
        return batch.id

    def add(self, batch_id: str, new: Sequence[NewTask], *, first: int = 0, fresh: bool = True) -> Slice:
        return self.store.write(lambda c: submission.insert_slice(c, batch_id, first, new, fresh=fresh))

    def seal(self, batch_id: str) -> int:
        return self.store.write(lambda c: submission.seal(c, batch_id))

    def abort(self, batch_id: str) -> None:
        self.store.write(lambda c: submission.abort(c, batch_id))

    def cancel(self, batch_id: str) -> None:
        self.store.write(
            lambda c: c.execute(update(batches).where(batches.c.id == batch_id).values(cancelled_at=now()))
        )

    def worker(self, tier: str = "small", lease_s: float = 60.0) -> str:
        id_ = new_id()
        self.store.write(lambda c: leases.register_worker(c, id_, tier, "1", lease_s))
        return id_

    def kill(self, worker_id: str) -> None:
        """A worker whose lease ran out."""
        self.set(workers, workers.c.id == worker_id, lease_until=now(-1))

    def claim(
        self,
        worker_id: str,
        ids: Sequence[str],
        tier: str = "small",
        reserved: int | None = RESERVED,
        caps: Sequence[Cap] = (),
    ) -> Claims:
        return self.store.write(
            lambda c: claims.claim(
                c, worker_id, tier, ids, learn_nothing, lambda task: new_attempt(task, reserved=reserved), caps
            )
        )

    def claim_one(self, worker_id: str, id_: str, tier: str = "small", reserved: int | None = RESERVED) -> Taken:
        (taken,) = self.claim(worker_id, [id_], tier, reserved).taken
        return taken

    def commit(self, worker_id: str, *steps: Step) -> Committed:
        return self.store.write(lambda c: outcomes.commit_steps(c, worker_id, steps))

    def finish(self, *batch_ids: str) -> None:
        self.store.write(lambda c: finish_batches(c, batch_ids))

    def settle(self, worker_id: str, max_attempts: int = 10) -> tuple[bool, list[Any]]:
        settled = self.store.write(lambda c: sweeps.settle_worker(c, worker_id, "sweeper", max_attempts))
        return settled.is_done, settled.chunks

    def ids(self, batch_id: str) -> list[str]:
        """A batch's tasks, by position."""
        return [row.id for row in self.rows(tasks, tasks.c.batch_id == batch_id, order=tasks.c.position)]

    def task(self, id_: str) -> Any:
        return self.one(tasks, tasks.c.id == id_)

    def ledger(self, task_id: str) -> list[Any]:
        return self.rows(attempts, attempts.c.task_id == task_id, order=attempts.c.ordinal)

    def budgets(self) -> dict[str, tuple[int, int, int]]:
        """Limit, spent and reserved of each budget."""
        return {row.scope: (row.limit_nusd, row.spent_nusd, row.reserved_nusd) for row in self.rows(budgets)}

    def chunks(self, batch_id: str) -> list[Any]:
        return self.rows(chunks, chunks.c.batch_id == batch_id, order=chunks.c.id)

    def progress(self, batch_id: str) -> reading.Progress:
        with self.store.reading() as connection:
            return reading.progress(connection, batch_id)

    def read(self, work: Any, *args: Any, **options: Any) -> Any:
        with self.store.reading() as connection:
            return work(connection, *args, **options)

    def rows(self, table: Any, *where: Any, order: Any = None) -> list[Any]:
        statement = select(table).where(*where)
        with self.store.reading() as connection:
            return list(connection.execute(statement if order is None else statement.order_by(order)).all())

    def one(self, table: Any, *where: Any) -> Any:
        (row,) = self.rows(table, *where)
        return row

    def count(self, table: Any, *where: Any) -> int:
        with self.store.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())

    def set(self, table: Any, *where: Any, **values: Any) -> None:
        """Changes rows behind the code's back: mostly their times, instead of waiting."""
        self.store.write(lambda c: c.execute(update(table).where(*where).values(**values)))

    def put(self, table: Any, **values: Any) -> None:
        self.store.write(lambda c: c.execute(insert(table).values(**values)))

    def now(self) -> datetime:
        return self.read(submission.database_now)

    def later(self) -> datetime:
        """The store's time once it has moved on: what happens in one millisecond has no order."""
        before = self.now()
        while (at := self.now()) <= before:
            pass
        return at

    def tally_counts(self, batch_id: str) -> dict[str, int]:
        """What the tallies say of a batch, by state."""
        found = self.rows(tallies, tallies.c.batch_id == batch_id)
        states = ("succeeded", "failed", "cancelled", "expired")
        return {state: sum(getattr(row, state) for row in found) for state in states}

    def clear(self) -> None:
        def work(connection: Any) -> None:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

        self.store.write(work)


@contextmanager
def opened(url: str) -> Iterator[Installation]:
    store = Store(url)
    try:
        yield Installation(store)
    finally:
        store.close()
