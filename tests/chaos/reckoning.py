"""The reckoning after a run: what the ledger says, what the provider's side says, and where the two differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from tierq_shared.outcomes import TERMINAL, AttemptOutcome
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, batches, chunks, leases, markers, tallies, tasks, workers

_OPEN = (AttemptOutcome.STARTED, AttemptOutcome.UNKNOWN)
_ANSWERED = 200
"""The HTTP status of an answer that a provider charges for."""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The two sides of a run, and what must be zero."""

    tasks: int
    """Submitted."""
    states: Mapping[str, int]
    attempts: int
    served: int
    """Answers that the simulator gave."""
    double: int
    """Outcomes that the tallies count and no task has, or the other way round."""
    not_in_ledger: int
    """Served, and the ledger has no such attempt."""
    not_served: int
    """Answered, says the ledger, and the simulator did not."""
    served_again: int
    """Attempt ids that were served more than once."""
    unseen: int
    """Served, and the ledger says that nothing was charged."""
    unknown_served: int
    unknown_not_served: int
    paid_twice: int
    """Tasks for which more than one answer that was no re-ask's, or not known to be useless, was served."""
    still_started: int
    chunks_left: int
    unfinished_batches: int
    wrong_costs: int
    """Tasks and batches whose cost is not the sum of their attempts'."""

    @property
    def lost(self) -> int:
        """Tasks without an ended state."""
        return self.tasks - sum(self.states.get(state, 0) for state in TERMINAL)

    @property
    def difference(self) -> int:
        return self.not_in_ledger + self.not_served + self.served_again + self.unseen

    def zeros(self) -> dict[str, int]:
        """What must be zero, by its name."""
        return {
            "lost tasks": self.lost,
            "double outcomes": self.double,
            "served and not in the ledger": self.not_in_ledger,
            "in the ledger as answered and not served": self.not_served,
            "attempts served more than once": self.served_again,
            "served and in the ledger as not charged": self.unseen,
            "attempts still started": self.still_started,
            "chunks left": self.chunks_left,
            "batches not finished": self.unfinished_batches,
            "costs that are not the sum of their attempts": self.wrong_costs,
        }

    def findings(self) -> list[str]:
        return [f"{name}: {count}" for name, count in self.zeros().items() if count]


def is_settled(connection: Connection) -> bool:
    """Whether nothing is under way any more: no attempt, no chunk, no batch."""
    return not (_count_started(connection) or _count(connection, chunks) or _unfinished(connection))


def leftovers(connection: Connection) -> list[str]:
    """The rows that keep a run from its end, to be read by a person."""
    unended = select(tasks).where(tasks.c.state.not_in(TERMINAL))
    waiting = (unended, select(chunks), select(workers), select(leases), select(markers))
    now_ = connection.execute(select(now())).scalar_one()
    return [f"now {now_}", *(str(row._asdict()) for one in waiting for row in connection.execute(one))]


def reckon(connection: Connection, submitted: int, served: Mapping[str, int]) -> Reckoning:
    """Holds the ledger against ``served``, the simulator's counts by attempt id."""
    ledger = {row.id: row for row in connection.execute(select(attempts)).all()}
    unknown = [id_ for id_, row in ledger.items() if row.outcome == AttemptOutcome.UNKNOWN]
    return Reckoning(
        tasks=submitted,
        states=_states(connection),
        attempts=len(ledger),
        served=sum(served.values()),
        double=_double(connection),
        not_in_ledger=len(served.keys() - ledger.keys()),
        not_served=sum(_is_answered(row) and id_ not in served for id_, row in ledger.items()),
        served_again=sum(count > 1 for count in served.values()),
        unseen=sum(_is_free(ledger[id_]) for id_ in served.keys() & ledger.keys()),
        unknown_served=sum(id_ in served for id_ in unknown),
        unknown_not_served=sum(id_ not in served for id_ in unknown),
        paid_twice=_paid_twice(ledger, served),
        still_started=_count_started(connection),
        chunks_left=_count(connection, chunks),
        unfinished_batches=_unfinished(connection),
        wrong_costs=_wrong_costs(connection, ledger),
    )


def _states(connection: Connection) -> dict[str, int]:
    counted = connection.execute(select(tasks.c.state, func.count().label("number")).group_by(tasks.c.state))
    return {row.state: row.number for row in counted}


def _is_answered(row: Any) -> bool:
    return bool(row.http_status == _ANSWERED)


def _is_free(row: Any) -> bool:
    """Neither answered nor open, and without a cost."""
    return not _is_answered(row) and row.outcome not in _OPEN and not row.cost_nusd


def _double(connection: Connection) -> int:
    """How far the tallies and the tasks' own states are apart, over batches and states."""
    counted: Counter[tuple[str, str]] = Counter()
    columns = [func.sum(tallies.c[state]).label(state) for state in TERMINAL]
    for row in connection.execute(select(tallies.c.batch_id, *columns).group_by(tallies.c.batch_id)):
        counted.update({(row.batch_id, state): getattr(row, state) for state in TERMINAL})
    of_tasks = select(tasks.c.batch_id, tasks.c.state, func.count().label("number"))
    for row in connection.execute(of_tasks.group_by(tasks.c.batch_id, tasks.c.state)):
        if row.state in TERMINAL:
            counted[row.batch_id, row.state] -= row.number
    return sum(map(abs, counted.values()))


def _paid_twice(ledger: Mapping[str, Any], served: Mapping[str, int]) -> int:
    """An answer known to be useless is rightly followed by another; of all others one is enough."""
    useful = (*_OPEN, AttemptOutcome.SUCCEEDED)
    paid = Counter(ledger[id_].task_id for id_ in served.keys() & ledger.keys() if ledger[id_].outcome in useful)
    return sum(count > 1 for count in paid.values())


def _wrong_costs(connection: Connection, ledger: Mapping[str, Any]) -> int:
    of_task: dict[str, list[int | None]] = defaultdict(list)
    for row in ledger.values():
        of_task[row.task_id].append(row.cost_nusd)
    of_batch: Counter[str] = Counter()
    wrong = 0
    for row in connection.execute(select(tasks.c.id, tasks.c.batch_id, tasks.c.cost_nusd)):
        wrong += row.cost_nusd != _sum(of_task[row.id])
        of_batch[row.batch_id] += row.cost_nusd or 0
    tallied = select(tallies.c.batch_id, func.sum(tallies.c.cost_nusd).label("cost")).group_by(tallies.c.batch_id)
    return wrong + sum(of_batch[row.batch_id] != row.cost for row in connection.execute(tallied))


def _sum(costs: list[int | None]) -> int | None:
    return None if None in costs else sum(cost or 0 for cost in costs)


def _count_started(connection: Connection) -> int:
    started = attempts.c.outcome == AttemptOutcome.STARTED
    return connection.execute(select(func.count()).select_from(attempts).where(started)).scalar_one()


def _count(connection: Connection, table: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _unfinished(connection: Connection) -> int:
    open_ = batches.c.state.in_(("open", "running"))
    return connection.execute(select(func.count()).select_from(batches).where(open_)).scalar_one()
