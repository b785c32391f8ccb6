"""What the store should hold, in plain Python: told what was asked of it, held against its rows after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from support.simulated_clock import SimulatedClock
from tierq_shared.outcomes import TERMINAL
from tierq_shared.store.budgets import charge
from tierq_shared.store.claims import Claims
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_shared.store.tables import attempts, batches, budgets, chunks, tallies, tasks, workers
from unit.store.installation import Installation
from unit.store.simulated_worker import LEASE_S

MAX_ATTEMPTS = 4


@dataclass
class ModelTask:
    """One task. ``ending`` is its row once it has ended: that never changes, but for its cost."""

    batch_id: str
    deadline: datetime | None
    state: str = "queued"
    epoch: int = 0
    owner: str | None = None
    ending: Any = None


@dataclass
class ModelAttempt:
    """One line of the ledger."""

    task_id: str
    worker_id: str
    reserved: int | None
    outcome: str = "started"
    cost: int | None = None


@dataclass
class ModelBatch:
    """One batch; ``state`` is what its submitter made of it."""

    state: str
    cancelled: bool = False


@dataclass
class Rows:
    """The whole store at one moment."""

    tasks: dict[str, Any]
    attempts: dict[str, Any]
    batches: dict[str, Any]
    chunks: dict[str, Any]
    workers: set[str]
    tallies: list[Any]
    budgets: list[Any]

    @classmethod
    def of(cls, here: Installation) -> Rows:
        found = [{row.id: row for row in here.rows(table)} for table in (tasks, attempts, batches, chunks)]
        known = {row.id for row in here.rows(workers)}
        return cls(*found, workers=known, tallies=here.rows(tallies), budgets=here.rows(budgets))


@dataclass
class Model:
    """Everything that was submitted, claimed and answered."""

    clock: SimulatedClock
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    attempts: dict[str, ModelAttempt] = field(default_factory=dict)
    batches: dict[str, ModelBatch] = field(default_factory=dict)
    leases: dict[str, datetime] = field(default_factory=dict)
    """Each worker's lease, by its id; one that stopped has none."""

    # What is done.

    def began(self, worker_id: str) -> None:
        if worker_id not in self.leases:
            self.renewed(worker_id)

    def renewed(self, worker_id: str) -> None:
        self.leases[worker_id] = self.clock.after(LEASE_S)

    def is_over(self, worker_id: str) -> bool:
        return self.leases[worker_id] <= self.clock.now

    def submitted(self, batch_id: str, ids: Iterable[str], deadline: datetime | None) -> None:
        self.tasks |= {id_: ModelTask(batch_id, deadline) for id_ in ids}

    def claimed(self, worker_id: str, claims: Claims) -> None:
        """Only what may run is claimed or refused, by a worker whose lease runs."""
        for claim, attempt in claims.taken:
            task = self._claimable(claim.id)
            assert not self.is_over(worker_id)
            task.state, task.epoch, task.owner = "running", task.epoch + 1, worker_id
            assert claim.epoch == attempt.epoch == task.epoch
            self._started(attempt, worker_id)
        for claim, _ in claims.refused:
            self._claimable(claim.id).state = "failed"
        for id_ in claims.left:
            self._claimable(id_)

    def committed(self, worker_id: str, steps: Sequence[Step], counted: Sequence[bool]) -> None:
        """A step counts only where the task still runs at its epoch; its answer goes into the ledger anyhow."""
        assert len(steps) == len(counted)
        for step, verdict in zip(steps, counted, strict=True):
            task = self.tasks[step.task_id]
            is_own = task.state == "running" and task.epoch == step.epoch
            stops = isinstance(step.next, NewAttempt) and self.batches[task.batch_id].cancelled
            is_capped = isinstance(step.next, NewAttempt) and bool(step.next.caps)
            is_held = is_capped and is_own and not stops and not verdict
            assert is_held or verdict == (is_own and not stops)
            if step.result is not None:
                self._answered(step.result)
            if is_own:
                self._followed(task, step, worker_id, stops=stops, is_held=is_held)

    def swept(self, rows: Rows) -> None:
        """What sweeps did by themselves must have had its reason."""
        for id_, row in rows.tasks.items():
            task = self.tasks[id_]
            if row.state != task.state:
                assert self._may_become(task, row), f"{task} became {row.state}"
                task.state, task.owner = row.state, None
        for id_, row in rows.attempts.items():
            attempt = self.attempts[id_]
            if (row.outcome, attempt.outcome) == ("unknown", "started"):
                assert self.is_over(attempt.worker_id)
                attempt.outcome, attempt.cost = "unknown", attempt.reserved

    def _claimable(self, id_: str) -> ModelTask:
        task = self.tasks[id_]
        assert task.state == "queued"
        assert not self.batches[task.batch_id].cancelled
        assert task.deadline is None or task.deadline > self.clock.now
        return task

    def _started(self, attempt: NewAttempt, worker_id: str) -> None:
        self.attempts[attempt.id] = ModelAttempt(attempt.task_id, worker_id, attempt.reserved_nusd)

    def _answered(self, result: AttemptResult) -> None:
        attempt = self.attempts[result.id]
        if attempt.outcome in ("started", "unknown"):
            attempt.outcome, attempt.cost = result.outcome, result.cost_nusd

    def _followed(self, task: ModelTask, step: Step, worker_id: str, *, stops: bool, is_held: bool) -> None:
        match step.next:
            case Ended():
                task.state, task.owner = step.next.state, None
            case Requeued():
                task.state, task.owner = "queued", None
            case NewAttempt() if stops:
                task.state, task.owner = "cancelled", None
            case NewAttempt() if is_held:
                task.state, task.owner = "queued", None
            case NewAttempt():
                self._started(step.next, worker_id)

    def _may_become(self, task: ModelTask, row: Any) -> bool:
        dead = task.state == "running" and self.is_over(task.owner or "")
        queued = dead or task.state == "queued"  # one sweep may take it back and end it at once
        reasons = {
            "queued": dead,
            "failed": dead and row.attempts >= MAX_ATTEMPTS and row.error_code == "attempts_exhausted",
            "expired": queued and task.deadline is not None and task.deadline < self.clock.now,
            "cancelled": queued and self.batches[task.batch_id].cancelled,
        }
        return reasons.get(row.state, False)

    # What must hold.

    def check(self, rows: Rows) -> None:
        assert rows.tasks.keys() == self.tasks.keys()
        for id_, row in rows.tasks.items():
            self._check_task(self.tasks[id_], row, rows)
        self._check_ledger(rows)
        self._check_budgets(rows)
        for id_, batch in self.batches.items():
            self._check_batch(id_, batch, rows)

    def _check_task(self, task: ModelTask, row: Any, rows: Rows) -> None:
        assert (row.state, row.epoch, row.worker_id) == (task.state, task.epoch, task.owner)
        if row.state in TERMINAL:
            ending = {**row._mapping, "cost_nusd": None}
            task.ending = task.ending or ending
            assert ending == task.ending, "an ended task changed"
        elif row.state == "running":
            assert row.worker_id in rows.workers, "nobody will ever take this task back"
        elif self.batches[row.batch_id].state != "aborted":
            self._check_not_forgotten(row, rows)

    def _check_not_forgotten(self, row: Any, rows: Rows) -> None:
        """A queued task's chunk is unpublished, in the broker's hands, or with a worker that will be settled.

        Those that sweeps will end by themselves need none.
        """
        if self.batches[row.batch_id].cancelled or (row.deadline and row.deadline <= self.clock.now):
            return
        chunk = rows.chunks.get(row.chunk_id)
        assert chunk is not None, "a queued task is in no chunk"
        assert chunk.tier == row.tier
        assert chunk.received_at is None or chunk.worker_id in rows.workers, (
            "its chunk is with a worker that is no more"
        )

    def _check_ledger(self, rows: Rows) -> None:
        found = {id_: (row.task_id, row.outcome, row.cost_nusd) for id_, row in rows.attempts.items()}
        assert found == {id_: (one.task_id, one.outcome, one.cost) for id_, one in self.attempts.items()}
        for id_, attempt in self.attempts.items():
            task = self.tasks[attempt.task_id]
            if attempt.outcome == "started":
                assert task.state == "running", f"attempt {id_} of a task that nobody runs is open"
                assert task.owner == attempt.worker_id
        for id_, row in rows.tasks.items():
            if row.state != "running":  # while a call is under way the sum is not settled
                assert row.cost_nusd == self.cost_of(id_)

    def _check_budgets(self, rows: Rows) -> None:
        """A budget is the sum of its attempts, and never more than its limit."""
        for budget in rows.budgets:
            under = [row for row in rows.attempts.values() if budget.scope in orjson.loads(row.budgets or "[]")]
            open_ = [row.reserved_nusd for row in under if row.outcome == "started"]
            ended = [row for row in under if row.outcome != "started"]
            assert budget.reserved_nusd == sum(open_)
            assert budget.spent_nusd == sum(charge(row.cost_nusd, row.reserved_nusd) for row in ended)
            assert budget.spent_nusd + budget.reserved_nusd <= budget.limit_nusd

    def cost_of(self, task_id: str) -> int | None:
        return total(one.cost for one in self.attempts.values() if one.task_id == task_id)

    def _check_batch(self, id_: str, batch: ModelBatch, rows: Rows) -> None:
        row = rows.batches[id_]
        of_batch = [task for task in rows.tasks.values() if task.batch_id == id_]
        ended = [task for task in of_batch if task.state in TERMINAL]
        counted = [one for one in rows.tallies if one.batch_id == id_]
        tallied = {state: sum(getattr(one, state) for one in counted) for state in TERMINAL}
        assert Counter({state: count for state, count in tallied.items() if count}) == Counter(
            task.state for task in ended
        )
        assert sum(one.cost_nusd for one in counted) == sum(task.cost_nusd or 0 for task in ended)
        assert sum(one.unpriced for one in counted) == sum(task.cost_nusd is None for task in ended)
        assert row.state in (("running", "finished") if batch.state == "running" else (batch.state,))
        if row.finished_at is not None:
            assert len(ended) == len(of_batch), "a batch is over before its tasks are"
        assert (row.finished_at is not None) >= (row.state == "finished")

    def check_drained(self, rows: Rows) -> None:
        """Everything has ended, and nothing is left behind."""
        assert {row.state for row in rows.tasks.values()} <= set(TERMINAL)
        assert {row.state for row in rows.batches.values()} <= {"finished", "aborted"}
        assert [row.id for row in rows.batches.values() if row.finished_at is None] == []
        assert rows.chunks == {}
        assert "started" not in {row.outcome for row in rows.attempts.values()}


def total(costs: Iterable[int | None]) -> int | None:
    """A sum; None where any part is unknown."""
    parts = list(costs)
    return None if None in parts else sum(part or 0 for part in parts)
