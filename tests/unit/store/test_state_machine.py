"""The whole state machine against a model, in any order: workers that die, late and repeated commits, lost messages.

`TIERQ_TEST_EXAMPLES=2000 python -m pytest tests/unit/store/test_state_machine.py` tries more runs, and other ones each
time; without it the same runs are made always.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.simulated_broker import SimulatedBroker
from support.simulated_clock import SimulatedClock
from tierq_shared.caps import Cap
from tierq_shared.settings import WorkerSettings
from tierq_shared.store import leases, submission, sweeps
from tierq_shared.store.claims import ClaimedTask, Refusal
from tierq_shared.store.ledger import NewAttempt
from tierq_shared.store.outcomes import Ended, Requeued, Step
from tierq_shared.store.tables import batches, tasks
from tierq_workers.recorder import Group
from tierq_workers.sweeper import Sweeper
from unit.store.installation import FAILED, SUCCEEDED, Installation, Taken, new_attempt, new_task
from unit.store.model import MAX_ATTEMPTS, Model, ModelBatch, Rows
from unit.store.simulated_worker import SimulatedWorker

MORE = int(os.environ.get("TIERQ_TEST_EXAMPLES", "0"))

PICK = st.integers(0, 11)
"""Chooses among what there is, round and round."""

COST = st.sampled_from([0, 7, 30, None])

NEXT: dict[str, Callable[[ClaimedTask, int], Ended | Requeued | NewAttempt]] = {
    "succeeded": lambda _task, _ordinal: SUCCEEDED,
    "failed": lambda _task, _ordinal: FAILED,
    "again": lambda task, _ordinal: Requeued(task.tier),
    "later": lambda task, _ordinal: Requeued(task.tier, after_s=20.0),
    "escalated": lambda _task, _ordinal: Requeued("large", reason="escalated from small: invalid_output"),
    "call": lambda task, ordinal: new_attempt(task, ordinal=ordinal + 1),
}

CAPS = (Cap("day", None, 20_000, "wait"), Cap("total", "team=search", 1_000, "wait"))
"""Room for 20 calls under way, by attempts of 1,000: some runs meet it."""

CHOOSERS: dict[str, Callable[[ClaimedTask], NewAttempt | Refusal | None]] = {
    "take": new_attempt,
    "unpriced": partial(new_attempt, reserved=None),
    "leave": lambda _task: None,
    "refuse": lambda _task: Refusal("no_deployment", "no deployment may run it"),
}


class Machine(RuleBasedStateMachine):
    """Producers, workers, sweepers and a broker over one real store."""

    def __init__(self, here: Installation, clock: SimulatedClock) -> None:
        super().__init__()
        here.clear()
        self.here, self.clock = here, clock
        self.broker = SimulatedBroker()
        self.model = Model(clock)
        self.sweepers = [self._sweeper(), self._sweeper()]
        self.workers: list[SimulatedWorker] = []
        self.last: tuple[SimulatedWorker, Group] | None = None
        self.said: list[tuple[SimulatedWorker, Step]] = []
        self.thought_dead: list[str] = []
        for tier in ("small", "small", "large"):
            self._start(tier)
        # Work under way from the start: most runs would end before they had made any themselves.
        for number in range(4):
            self.submit(count=3, priority=5, within=None, dies=False)
            self.receive(pick=number, slots=2)

    # Producers.

    @rule(
        count=st.integers(1, 3),
        priority=st.sampled_from([5, 9]),
        within=st.sampled_from([None, None, 40.0]),
        dies=st.booleans(),
        cap=st.sampled_from([None, 2_500]),
        own=st.sampled_from([None, 1_500]),
    )
    def submit(
        self,
        count: int,
        priority: int,
        within: float | None,
        dies: bool,
        cap: int | None = None,
        own: int | None = None,
    ) -> None:
        deadline = None if within is None else self.clock.after(within)
        new = [new_task(priority=priority, deadline=deadline, max_cost_nusd=own) for _ in range(count)]
        batch = self.here.submit(new, max_cost_nusd=cap, on_cap="wait")
        self.model.batches[batch] = ModelBatch("running")
        self.model.submitted(batch, self.here.ids(batch), deadline)
        if not dies:
            self._publish(batch, notes=True)

    @rule(streaming=st.booleans())
    def open(self, streaming: bool) -> None:
        batch = self.here.open(streaming=streaming)
        self.model.batches[batch] = ModelBatch("open")
        self._add(batch)

    @precondition(lambda self: self._in_state("open"))
    @rule(pick=PICK, what=st.sampled_from(["add", "seal", "abort"]))
    def go_on_submitting(self, pick: int, what: str) -> None:
        batch = _pick(self._in_state("open"), pick)
        if what == "add":
            self._add(batch)
        elif what == "seal":
            self.here.seal(batch)
            self.model.batches[batch].state = "running"
        else:
            self.here.abort(batch)
            self.model.batches[batch] = ModelBatch("aborted", cancelled=True)

    @precondition(lambda self: self.model.batches)
    @rule(pick=PICK, notes=st.booleans())
    def publish(self, pick: int, notes: bool) -> None:
        """A producer publishes; it may die before it can note so."""
        batch = _pick(list(self.model.batches), pick)
        if self.model.batches[batch].state == "running" or self.here.one(batches, batches.c.id == batch).streaming:
            self._publish(batch, notes=notes)

    @precondition(lambda self: len(self._in_state("running")) > 3)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        batch = _pick(self._in_state("running"), pick)
        self.here.cancel(batch)
        self.model.batches[batch].cancelled = True

    # The broker.

    @rule(is_down=st.sampled_from([False, False, True]))
    def break_or_mend_the_broker(self, is_down: bool) -> None:
        self.broker.is_down = is_down

    @precondition(lambda self: len(self.broker))
    @rule(pick=PICK, fate=st.sampled_from(["lost", "doubled", "overtaken"]))
    def disturb(self, pick: int, fate: str) -> None:
        queue = _pick([queue for queue in self.broker.queues.values() if queue], pick)
        message = queue.pop(0)
        queue += {"lost": [], "doubled": [message, message], "overtaken": [message]}[fate]

    # Workers.

    @precondition(lambda self: len(self.broker))
    @rule(pick=PICK, slots=st.integers(0, 3))
    def receive(self, pick: int, slots: int) -> None:
        worker = _pick(self.workers, pick)
        worker.choose = new_attempt
        if (message := self.broker.take(worker.tier)) is not None:
            worker.take(message)
            self._commit(worker, slots=slots)

    @precondition(lambda self: any(worker.entries for worker in self.workers))
    @rule(pick=PICK, mood=st.sampled_from(list(CHOOSERS)), slots=st.integers(1, 3), rest=st.sampled_from([0.0, 15.0]))
    def claim(self, pick: int, mood: str, slots: int, rest: float) -> None:
        worker = _pick([worker for worker in self.workers if worker.entries], pick)
        worker.choose = CHOOSERS[mood]
        self._commit(worker, slots=slots, rest_s=rest)

    @precondition(lambda self: self._under_way())
    @rule(pick=PICK, kind=st.sampled_from(list(NEXT)), cost=COST, known=st.booleans())
    def answer(self, pick: int, kind: str, cost: int | None, known: bool) -> None:
        self._answer(*_pick(self._under_way(), pick), kind, cost, "answered" if known else "unknown")

    @precondition(lambda self: self._under_way())
    @rule(pick=PICK, kind=st.sampled_from(list(NEXT)), cost=COST, again=st.booleans())
    def answer_late(self, pick: int, kind: str, cost: int | None, again: bool) -> None:
        """A worker stood still for longer than its lease before it can say how a call ended."""
        worker, taken = _pick(self._under_way(), pick)
        self._oversleep(worker)
        if again:
            self._take_over(worker)
        self._answer(worker, taken, kind, cost, "answered")

    @precondition(lambda self: any(self.broker.queues.values()))
    @rule(pick=PICK)
    def receive_late(self, pick: int) -> None:
        """A worker stood still for longer than its lease before it can note what it received."""
        worker = _pick(self.workers, pick)
        if (message := self.broker.take(worker.tier)) is not None:
            worker.take(message)
            self._oversleep(worker)
            self._commit(worker)

    @precondition(lambda self: self.last)
    @rule()
    def commit_again(self) -> None:
        """The connection broke at a commit, which had come through: the ledger says so."""
        assert self.last is not None
        worker, group = self.last
        before = self._rows()
        result = group.result
        worker.write(group)
        assert group.result is result
        assert self._rows() == before

    @precondition(lambda self: self.said)
    @rule(pick=PICK)
    def say_again(self, pick: int) -> None:
        """Something that was said long ago is committed once more, by whatever accident."""
        worker, one = _pick(self.said, pick)
        self._commit(worker, [one])

    @precondition(lambda self: any(worker.entries for worker in self.workers))
    @rule(pick=PICK, after=st.sampled_from([0.0, 15.0]))
    def hand_back(self, pick: int, after: float) -> None:
        worker = _pick([worker for worker in self.workers if worker.entries], pick)
        worker.hand_back(worker.entries[0], after)
        self._commit(worker)

    @precondition(lambda self: any(worker.entries or worker.runs for worker in self.workers))
    @rule(pick=PICK, how=st.sampled_from(["killed", "stopped"]))
    def end_worker(self, pick: int, how: str) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        if how == "stopped":
            self.here.store.write(lambda c: leases.stop_worker(c, worker.id))
            self.model.leases[worker.id] = self.clock.now
        self._start(worker.tier)

    # Time and sweeps.

    @rule(seconds=st.sampled_from([1, 6, 16, 31, 61, 95]), asleep=st.sets(PICK, max_size=2))
    def wait(self, seconds: int, asleep: set[int]) -> None:
        """Time passes; workers that are not asleep renew their leases on the way."""
        awake = [worker for number, worker in enumerate(self.workers) if number not in asleep]
        while seconds > 0:
            self.clock.advance(min(seconds, 7))
            seconds -= 7
            for worker in awake:
                self._renew(worker)

    @rule(pick=PICK, times=st.sampled_from([1, 1, 5]))
    def sweep(self, pick: int, times: int) -> None:
        """One of two sweepers sweeps, if the other does not; every fifth sweep also looks for what is rare."""
        self.thought_dead = self.here.read(sweeps.dead_workers)
        for _ in range(times):
            _pick(self.sweepers, pick).sweep(_pick(self.workers, pick).id)
        self.model.swept(self._rows())

    @precondition(lambda self: self.thought_dead)
    @rule(pick=PICK)
    def settle_again(self, pick: int) -> None:
        """A second sweeper settles a worker that the first has found as well."""
        dead = _pick(self.thought_dead, pick)
        self.here.store.write(partial(sweeps.settle_worker, worker_id=dead, sweeper_id="s", max_attempts=MAX_ATTEMPTS))
        self.model.swept(self._rows())

    @invariant()
    def holds(self) -> None:
        self.model.check(self._rows())

    def teardown(self) -> None:
        """All comes to its end once the broker works, one worker a tier does, and the caps have room."""
        self.broker.is_down = False
        self.here.set(batches, batches.c.max_cost_nusd.is_not(None), max_cost_nusd=1_000_000)
        self.here.set(tasks, tasks.c.max_cost_nusd.is_not(None), max_cost_nusd=1_000_000)
        for batch in self._in_state("open"):
            self.here.seal(batch)
            self.model.batches[batch].state = "running"
        for number in range(40):
            if not self._work_on(number):
                break
        self.model.check_drained(self._rows())

    def _work_on(self, number: int) -> bool:
        """Takes, runs and sweeps for a while; whether anything is left to do."""
        for worker in self.workers:
            worker.choose = new_attempt
            for _ in range(len(self.broker)):
                if (message := self.broker.take(worker.tier)) is not None:
                    worker.take(message)
            while worker.entries:
                self._commit(worker, slots=100)
            while worker.runs:
                taken = worker.runs[0]
                self._commit(worker, [worker.step(taken, SUCCEEDED, cost=1, outcome="answered")])
        self.wait(35, asleep=set())
        self.sweep(0, 5)
        rows = self._rows()
        self.model.check(rows)
        return bool(rows.chunks) or any(row.finished_at is None for row in rows.batches.values())

    # How it is done.

    def _sweeper(self) -> Sweeper:
        chosen = WorkerSettings(max_attempts=MAX_ATTEMPTS)
        return Sweeper(self.here.store, self.broker, chosen, lambda _ended: None)  # type: ignore[arg-type]

    def _start(self, tier: str) -> None:
        self.workers.append(SimulatedWorker(self.here, self.broker, tier, CAPS))
        self.model.began(self.workers[-1].id)

    def _renew(self, worker: SimulatedWorker) -> None:
        renewed = self.here.store.write(lambda c: leases.renew(c, worker.id, 30.0))
        assert renewed != self.model.is_over(worker.id)
        if not renewed:
            worker.begin()
        self.model.renewed(worker.id)

    def _commit(self, worker: SimulatedWorker, steps: list[Step] | None = None, **options: Any) -> Group:
        group = worker.commit(steps or [], **options)
        assert group.result is not None
        self.model.began(worker.id)
        self.model.committed(worker.id, group.steps, group.result.committed.counted)
        self.model.claimed(worker.id, group.result.claims)
        if group.steps or group.result.claims.taken:
            self.last = worker, group
        # A further attempt is known by its id when it comes again; that is the recorder's part, see commit_again.
        self.said += [(worker, step) for step in group.steps if not isinstance(step.next, NewAttempt)]
        return group

    def _publish(self, batch: str, *, notes: bool) -> None:
        found = self.here.read(submission.unpublished, batch, 100)
        if not self.broker.is_down:
            self.broker.publish(found)
            if notes:
                self.here.store.write(lambda c: submission.mark_published(c, [chunk.id for chunk in found]))

    def _answer(self, worker: SimulatedWorker, taken: Taken, kind: str, cost: int | None, outcome: str) -> None:
        cost = taken[1].reserved_nusd if outcome == "unknown" else cost
        one = worker.step(taken, NEXT[kind](taken[0], taken[1].ordinal), cost=cost, outcome=outcome)
        group = self._commit(worker, [one])
        if kind == "call" and group.result and group.result.committed.counted == [True]:
            worker.go_on(one, taken)

    def _oversleep(self, worker: SimulatedWorker) -> None:
        number = self.workers.index(worker)
        self.wait(31, asleep={number})
        self.sweep(number + 1, 1)

    def _take_over(self, former: SimulatedWorker) -> None:
        """Another worker of the tier takes what the broker has, and as much of it as it can."""
        for other in self.workers:
            if other is not former and other.tier == former.tier:
                other.choose = new_attempt
                while (message := self.broker.take(other.tier)) is not None:
                    other.take(message)
                self._commit(other, slots=100)

    def _add(self, batch: str) -> None:
        count = self.here.count(tasks, tasks.c.batch_id == batch)
        added = self.here.add(batch, [new_task(), new_task()], first=count, fresh=False)
        self.model.submitted(batch, added.task_ids, None)

    def _in_state(self, state: str) -> list[str]:
        return [id_ for id_, batch in self.model.batches.items() if batch.state == state]

    def _under_way(self) -> list[tuple[SimulatedWorker, Taken]]:
        return [(worker, taken) for worker in self.workers for taken in worker.runs]

    def _rows(self) -> Rows:
        return Rows.of(self.here)


def _pick(things: list[Any], number: int) -> Any:
    return things[number % len(things)]


def run(here: Installation, examples: int) -> None:
    clock = SimulatedClock(here.store)
    run_state_machine_as_test(
        lambda: Machine(here, clock),
        settings=settings(
            max_examples=MORE or examples,
            stateful_step_count=40,
            derandomize=not MORE,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, *([Phase.shrink] if MORE else [])],
        ),
    )


def test_on_sqlite(on_sqlite: Installation) -> None:
    run(on_sqlite, 14)


def test_on_postgresql(on_postgres: Installation) -> None:
    run(on_postgres, 4)
