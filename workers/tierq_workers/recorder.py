"""Group commit: whatever has gathered since the last commit goes into the next one. Commits again as soon as it can."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select
from sqlalchemy.exc import InterfaceError, OperationalError

from tierq_shared.caps import Cap
from tierq_shared.store import claims as claiming
from tierq_shared.store import outcomes
from tierq_shared.store.budgets import Purse
from tierq_shared.store.cache import give_answers
from tierq_shared.store.claims import LOCKED_S, Chooser, ClaimedTask, Claims, Learner, LeaseLost
from tierq_shared.store.connection import Store
from tierq_shared.store.controls import Scope, release
from tierq_shared.store.ledger import NewAttempt, committed_attempts
from tierq_shared.store.outcomes import Committed, Ended, Step
from tierq_shared.store.sealed import KEYS_VARIABLE
from tierq_shared.store.submission import forget_chunks, mark_published
from tierq_shared.store.sweeps import end_tasks
from tierq_shared.store.tables import attempts
from tierq_shared.store.tallies import finish_batches
from tierq_workers.admission import Admission, Draw
from tierq_workers.observers.base import NOBODY, Observer

log = logging.getLogger("tierq.worker")

RETRY_S = 0.5
"""How long to wait before a commit is tried again while the store cannot be reached."""


@dataclass(slots=True)
class Result:
    """What one commit came to."""

    claims: Claims
    committed: Committed


@dataclass(slots=True)
class Group:
    """What goes into one commit."""

    steps: list[Step]
    draw: Draw
    received: list[str]
    """Chunks whose receipt is news to the store."""
    handed_back: list[tuple[str, float]]
    published: list[str]
    resumed: list[Scope] = field(default_factory=list)
    """Where a pause has ended: what was put off is due, what this very commit hands back among it."""
    result: Result | None = None
    """What the last try came to, if it got as far: its commit may have succeeded although it was reported broken."""

    @property
    def is_empty(self) -> bool:
        chores = self.received or self.handed_back or self.published or self.resumed
        return not (self.steps or self.draw.entries or chores)


@dataclass(slots=True)
class Pending:
    """What gathers while a commit is under way."""

    steps: list[Step] = field(default_factory=list)
    verdicts: list[Callable[[bool], None] | None] = field(default_factory=list)
    handed_back: list[tuple[str, float]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    resumed: list[Scope] = field(default_factory=list)


class Recorder:
    """The one writer of a worker process's claims and outcomes."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        tier: str,
        *,
        worker_id: Callable[[], str],
        learn: Learner,
        choose: Chooser,
        on_commit: Callable[[Group, Result], None],
        on_lease_lost: Callable[[], Awaitable[None]],
        caps: Sequence[Cap] = (),
        observer: Observer = NOBODY,
    ) -> None:
        self._store = store
        self._executor = executor
        self._tier = tier
        self._worker_id = worker_id
        self._choosing = (learn, choose)
        self._on_commit = on_commit
        self._on_lease_lost = on_lease_lost
        self._caps = caps
        self._observer = observer
        self._pending = Pending()
        self._between: list[Callable[[], None]] = []
        self._dirty = asyncio.Event()
        self.commit_done = asyncio.Event()
        """Set while no commit is wanted or under way."""
        self.commit_done.set()
        self.admission: Admission
        self.last_commit_at = time.monotonic()
        self._tells_of_locked_at = 0.0

    def wake(self) -> None:
        self._dirty.set()

    def add(self, step: Step, verdict: Callable[[bool], None] | None = None) -> None:
        """Records a step with the next commit; ``verdict`` hears whether it counted."""
        self._pending.steps.append(step)
        self._pending.verdicts.append(verdict)
        self._dirty.set()

    def follow(self, learn: Learner, choose: Chooser, caps: Sequence[Cap]) -> None:
        """Claims by another configuration from the next commit on."""
        self._choosing, self._caps = (learn, choose), caps

    def between_commits(self, work: Callable[[], None]) -> None:
        """Runs something soon, at a moment when no claim is under way."""
        self._between.append(work)
        self._dirty.set()

    async def record(self, step: Step) -> bool:
        """Records a step and waits for it; whether it counted."""
        counted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.add(step, lambda verdict: None if counted.done() else counted.set_result(verdict))
        return await counted

    def hand_back(self, chunk_id: str, after_s: float) -> None:
        self._pending.handed_back.append((chunk_id, after_s))
        self._dirty.set()

    def resume(self, scopes: Iterable[Scope]) -> None:
        """Pauses have ended. Not before this worker's commits that put chunks off, or those would wait on."""
        self._pending.resumed += scopes
        self._dirty.set()

    def published(self, chunk_ids: Iterable[str]) -> None:
        self._pending.published += chunk_ids
        self._dirty.set()

    @property
    def is_idle(self) -> bool:
        return self.commit_done.is_set() and not self._dirty.is_set()

    async def run(self) -> None:
        """Commits group after group, until it is cancelled."""
        while True:
            self.commit_done.set()
            await self._dirty.wait()
            self._dirty.clear()
            self.commit_done.clear()
            while self._between:
                self._between.pop(0)()
            await self.commit_pending()

    async def commit_pending(self) -> None:
        """Commits what has gathered, claims included."""
        pending, self._pending = self._pending, Pending()
        new = [entry for entry in self.admission.new_entries() if not entry.closing]
        group = Group(
            pending.steps,
            self.admission.draw(),
            [entry.chunk.id for entry in new],
            pending.handed_back,
            pending.published,
            pending.resumed,
        )
        if group.is_empty:
            return
        for entry in new:
            entry.is_new = False
        result = await self._commit(group)
        for verdict, counted in zip(pending.verdicts, result.committed.counted, strict=True):
            if verdict is not None:
                verdict(counted)
        self._on_commit(group, result)

    async def _commit(self, group: Group) -> Result:
        """Commits a group, however long the store cannot be reached; a row that the store refuses stands alone."""
        loop = asyncio.get_running_loop()
        while True:
            began = time.monotonic()
            try:
                result = await loop.run_in_executor(self._executor, self._store.write, lambda c: self._write(c, group))
            except LeaseLost:
                self.admission.undo(group.draw)
                group.draw, group.result = Draw([]), None
                await self._on_lease_lost()
            except (OperationalError, InterfaceError) as error:
                log.warning("the store cannot be reached (%s); trying again", type(error.orig).__name__)
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # a row that no store takes, whatever the driver calls it
                log.warning(
                    "a group of %d outcomes is split: the store refused it (%s)", len(group.steps), _name(error)
                )
                return await self._commit_apart(group, error)
            else:
                self.last_commit_at = time.monotonic()
                self._observer.committed(len(group.steps), len(result.claims.taken), self.last_commit_at - began)
                self.admission.settle(group.draw, result.claims)
                self._tell_of_locked(len(result.claims.locked))
                return result

    def _tell_of_locked(self, tasks: int) -> None:
        if tasks and time.monotonic() >= self._tells_of_locked_at:
            self._tells_of_locked_at = time.monotonic() + LOCKED_S
            log.error("%d tasks stay queued: they are encrypted, and %s has no key for them here", tasks, KEYS_VARIABLE)

    async def _commit_apart(self, group: Group, error: Exception) -> Result:
        """Splits a group that the store refuses, until the step it refuses is alone; that one fails by itself."""
        first = Group([], group.draw, group.received, group.handed_back, group.published, group.resumed)
        parts = [group.steps[: len(group.steps) // 2], group.steps[len(group.steps) // 2 :]]
        if len(group.steps) <= 1:
            if not group.steps or _is_unrecordable(group.steps[0]):
                raise error
            log.error("an outcome could not be stored (%s); its task fails", _name(error))
            parts = [[_unrecordable(step)] for step in group.steps]
        result = await self._commit(first)
        for part in parts:
            sub = await self._commit(Group(part, Draw([]), [], [], []))
            result.committed.counted += sub.committed.counted
            result.committed.chunks += sub.committed.chunks
        if len(group.steps) == 1 and isinstance(group.steps[0].next, NewAttempt):
            result.committed.counted = [False]  # its task has failed here: whoever runs it must make no further call
        return result

    def _write(self, connection: Connection, group: Group) -> Result:
        """One transaction. Runs in the recorder's thread."""
        if group.result is not None and self._was_committed(connection, group, group.result):
            return group.result
        worker_id = self._worker_id()
        committed = Committed([])
        if group.draw.entries or group.received:
            # Before any task is locked: the sweeper takes the worker's row first, too. A receipt needs the lease as a
            # claim does: nobody takes back what was received by a worker that is settled already.
            claiming.check_lease(connection, worker_id)
        purse = Purse()
        # All tasks are locked before any budget is, see `budgets`.
        locked = outcomes.lock_tasks(connection, group.steps)
        waiting = claiming.lock_waiting(connection, self._tier, group.draw.ids, purse, self._caps)
        if group.steps:
            committed = outcomes.write_steps(connection, worker_id, group.steps, locked, purse)
        claims = Claims([], [])
        if group.draw.entries:
            claims = claiming.take(connection, worker_id, waiting, *self._choosing, purse)
            committed.chunks += outcomes.move_down(connection, claims.moved)
            give_answers(connection, worker_id, claims.answered)
            self._refuse(connection, worker_id, claims)
        self._finish_batches(connection, group, claims)
        purse.write(connection)
        self._write_chunks(connection, worker_id, group, claims)
        if group.result is not None:
            # Had the last try's commit succeeded, what the cache answered in it is not found again, and has ended.
            again = {task.id for task, _ in claims.answered}
            claims.answered.extend(one for one in group.result.claims.answered if one[0].id not in again)
        group.result = Result(claims, committed)
        return group.result

    @staticmethod
    def _finish_batches(connection: Connection, group: Group, claims: Claims) -> None:
        """All at once: whoever locked some, and some more later, could wait for one who does the same."""
        over = {step.batch_id for step in group.steps if isinstance(step.next, Ended)}
        over |= {task.batch_id for task, _ in [*claims.answered, *claims.refused]}
        if over:
            finish_batches(connection, over)

    @staticmethod
    def _refuse(connection: Connection, worker_id: str, claims: Claims) -> None:
        """Those of one cause together: a cap may refuse thousands."""
        by_cause: dict[tuple[str, str], list[ClaimedTask]] = defaultdict(list)
        for task, refusal in claims.refused:
            by_cause[refusal.code, refusal.message].append(task)
        for (code, message), refused in by_cause.items():
            end_tasks(connection, worker_id, refused, "failed", code, message)

    def _write_chunks(self, connection: Connection, worker_id: str, group: Group, claims: Claims) -> None:
        left = set(claims.left)
        claimed = {
            entry.chunk.id
            for entry in group.draw.entries
            if not entry.waiting and not entry.left and left.isdisjoint(entry.drawn)
        }
        if claimed:
            forget_chunks(connection, sorted(claimed))
        if received := [id_ for id_ in group.received if id_ not in claimed]:
            claiming.receive(connection, worker_id, received)
        for after_s in {after_s for _, after_s in group.handed_back}:
            ids = [id_ for id_, span in group.handed_back if span == after_s]
            claiming.hand_back(connection, ids, after_s=after_s)
        if group.published:
            mark_published(connection, group.published)
        for tier, batch_id in group.resumed:
            release(connection, tier=tier, batch_id=batch_id)

    @staticmethod
    def _was_committed(connection: Connection, group: Group, last: Result) -> bool:
        """Whether the last try's commit succeeded although its connection broke: any attempt of it tells."""
        written = [attempt.id for _, attempt in last.claims.taken]
        # A late step's further attempt was never written, so its absence says nothing.
        counted = zip(group.steps, last.committed.counted, strict=True)
        written += [step.next.id for step, is_own in counted if is_own and isinstance(step.next, NewAttempt)]
        if written:
            return bool(committed_attempts(connection, written))
        answers = [step.result for step in group.steps if step.result is not None]
        # A sweeper may have called them unknown meanwhile, so that word proves nothing where another was written.
        answered = [answer.id for answer in answers if answer.outcome != "unknown"] or [answer.id for answer in answers]
        not_yet = ("started", "unknown") if any(answer.outcome != "unknown" for answer in answers) else ("started",)
        open_ = select(attempts.c.id).where(attempts.c.id.in_(answered), attempts.c.outcome.in_(not_yet))
        return bool(answered) and connection.execute(open_).first() is None


def _unrecordable(step: Step) -> Step:
    """The same step without what the store refuses: the attempt stays charged, the task fails and says why."""
    result = step.result and replace(step.result, request_id=None, error="the answer could not be stored")
    return replace(step, result=result, next=_REFUSED)


_REFUSED = Ended("failed", error_code="unrecordable", error="the store refused the answer")


def _is_unrecordable(step: Step) -> bool:
    """Whether even the bare failure of a task is refused: then the store is what is wrong, not the row."""
    return step.next is _REFUSED


def _name(error: Exception) -> str:
    """An error's class, the driver's own where there is one; never its text, which quotes the row."""
    return type(getattr(error, "orig", None) or error).__name__
