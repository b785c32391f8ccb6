"""The count at the end: tasks in and out, and the ledger held against what the simulator served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tierq_shared.store.tables import attempts, tasks


@dataclass(frozen=True, slots=True)
class Count:
    """What went in, and what came of it."""

    submitted: int
    succeeded: int
    calls: int
    """In the ledger."""
    double: int
    """Tasks with more than one succeeded call, and calls that the simulator served more than once."""
    difference: int
    """Calls that only the ledger or only the simulator knows."""

    @property
    def lost(self) -> int:
        return self.submitted - self.succeeded

    @property
    def is_even(self) -> bool:
        return not (self.lost or self.double or self.difference)

    def __str__(self) -> str:
        return (
            f"{self.submitted:,} tasks in, {self.succeeded:,} succeeded, lost {self.lost}, double {self.double}; "
            f"{self.calls:,} calls in the ledger, {self.difference} of them or of the simulator's not in the other's"
        )


def count(connection: Connection, submitted: int, served: Mapping[str, int]) -> Count:
    """Counts, with ``served`` as the simulator's counts by attempt id."""
    ended = select(func.count()).where(tasks.c.state == "succeeded")
    ledger = list(connection.execute(select(attempts.c.id, attempts.c.task_id, attempts.c.outcome)))
    won = Counter(row.task_id for row in ledger if row.outcome == "succeeded")
    twice = sum(times > 1 for times in (*won.values(), *served.values()))
    return Count(
        submitted=submitted,
        succeeded=connection.execute(ended).scalar_one(),
        calls=len(ledger),
        double=twice,
        difference=len({row.id for row in ledger} ^ served.keys()),
    )
