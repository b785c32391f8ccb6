"""The tallies: how many tasks of a batch have ended, and what they cost; and so when a batch is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tierq_shared.outcomes import TERMINAL
from tierq_shared.store.clock import now
from tierq_shared.store.ledger import ledger_costs, recompute_costs
from tierq_shared.store.tables import batches, chunks, tallies

_ENDED_TASKS = (
    select(func.coalesce(func.sum(tallies.c.succeeded + tallies.c.failed + tallies.c.cancelled + tallies.c.expired), 0))
    .where(tallies.c.batch_id == batches.c.id)
    .scalar_subquery()
)

_HAVE_ENDED = (
    batches.c.id.in_(bindparam("ids", expanding=True)),
    batches.c.state == "running",
    batches.c.total <= _ENDED_TASKS,
)

_SEEM_ENDED = select(batches.c.id).where(*_HAVE_ENDED)
_HOLD = (
    select(batches.c.id)
    .where(batches.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(batches.c.id)
    .with_for_update()
)
_FINISH = update(batches).where(*_HAVE_ENDED).values(state="finished", finished_at=now()).returning(batches.c.id)


def finish_batches(connection: Connection, batch_ids: Iterable[str]) -> None:
    """Ends those of the batches whose every task has ended."""
    seem_ended = list(connection.execute(_SEEM_ENDED, {"ids": sorted(batch_ids)}).scalars())
    if seem_ended:
        # A retry may be taking failed tasks out of the tallies just now. It holds the batch meanwhile, and PostgreSQL
        # sees what it did only in a statement that begins after it.
        connection.execute(_HOLD, {"ids": seem_ended})
        finished = connection.execute(_FINISH, {"ids": seem_ended}).scalars().all()
        # A chunk that came too late for its tasks is nobody's any more.
        connection.execute(delete(chunks).where(chunks.c.batch_id.in_(finished)))


_TALLIED = ("succeeded", "failed", "cancelled", "expired", "cost_nusd", "unpriced")


def _adding(dialect: Any) -> Any:
    statement = dialect.insert(tallies)
    added = {name: tallies.c[name] + statement.excluded[name] for name in _TALLIED}
    return statement.on_conflict_do_update(index_elements=["batch_id", "tier", "worker_id"], set_=added)


_ADD_TO_TALLIES = {"postgresql": _adding(postgresql), "sqlite": _adding(sqlite)}


def add_to_tallies(
    connection: Connection, worker_id: str, ended: Iterable[tuple[str, str, str, int | None]], each: int = 1
) -> None:
    """Counts ended tasks, given as (batch, tier, state, cost), into rows that this worker alone adds to.

    ``each`` is what a task counts: -1 takes it out again, from whoever counted it.
    """
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for batch_id, tier, state, cost in ended:
        row = counts[batch_id, tier]
        row[state] += each
        row["cost_nusd"] += each * (cost or 0)
        row["unpriced"] += each * (cost is None)
    rows = [
        {"batch_id": batch_id, "tier": tier, "worker_id": worker_id, **{name: row.get(name, 0) for name in _TALLIED}}
        for (batch_id, tier), row in sorted(counts.items())
    ]
    if rows:
        connection.execute(_ADD_TO_TALLIES[connection.dialect.name], rows)


def correct_costs(connection: Connection, worker_id: str, changed: Sequence[Any]) -> None:
    """The ledger knows more of these tasks than they were charged: their costs follow, and the tallies' where they
    have ended."""
    rows = {row.id: row for row in changed}
    if not rows:
        return
    true_costs = ledger_costs(connection, set(rows))
    recompute_costs(connection, sorted(rows))
    for row in rows.values():
        if row.state in TERMINAL and row.id in true_costs:
            _correct_tally(connection, worker_id, row.batch_id, row.tier, row.cost_nusd, true_costs[row.id])


def _correct_tally(
    connection: Connection, worker_id: str, batch_id: str, tier: str, counted: int | None, cost: int | None
) -> None:
    """An ended task's cost has changed from what was ``counted``; None is a cost that is not known."""
    correction = {
        "batch_id": batch_id,
        "tier": tier,
        "worker_id": worker_id,
        **dict.fromkeys(_TALLIED, 0),
        "cost_nusd": (cost or 0) - (counted or 0),
        "unpriced": (cost is None) - (counted is None),
    }
    connection.execute(_ADD_TO_TALLIES[connection.dialect.name], correction)
