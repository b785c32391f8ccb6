"""Budgets: what is spent and reserved under each cap, in rows that change with the attempts they count.

Whoever locks takes locks in this order: the worker's row, tasks by id, entries of the cache by key, attempts, budgets
by scope, tallies, batches. So nobody who holds a budget waits for a task, and a budget, which all workers share, is
held for the end of a transaction alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Boolean, Connection, and_, bindparam, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tierq_shared.caps import Cap, batch_cap
from tierq_shared.errors import InvalidTask
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, batches, budgets, chunks

_AS_IT_IS = -1
"""Stands for a limit that the caller does not know: the row's own stays."""


@dataclass(slots=True)
class Account:
    """One budget as this transaction has it, in nano-USD."""

    scope: str
    limit: int
    spent: int
    reserved: int
    spent_before: int
    reserved_before: int
    is_reached: bool = False
    """A call was held back that no settlement can make room for."""

    @property
    def room(self) -> int:
        """What a call may cost now."""
        return self.limit - self.spent - self.reserved

    @property
    def unspent(self) -> int:
        """What a call could cost once all that is reserved had cost nothing."""
        return self.limit - self.spent


class Purse:
    """The budgets of one transaction: named first, then locked together, changed in memory, and written once.

    Where no cap holds for anything of the transaction, it makes no query.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        self._accounts: dict[str, Account] = {}

    def want(self, scopes: Mapping[str, int] | Iterable[str]) -> None:
        """Names budgets to be locked, with their limits or, to settle only, without."""
        limits = scopes if isinstance(scopes, Mapping) else dict.fromkeys(scopes, _AS_IT_IS)
        for scope, limit in limits.items():
            if limit != _AS_IT_IS or scope not in self._wanted:
                self._wanted[scope] = limit

    def want_caps(self, caps: Iterable[Cap], at: Any) -> None:
        """Names the budgets of a call under these caps."""
        self.want({cap.scope(at): cap.limit_nusd for cap in caps})

    def open(self, connection: Connection) -> None:
        """Locks what was named, makes what is new, and takes the limits over. All at once: nothing is named later."""
        if not self._wanted or self._accounts:
            return
        rows = [{"scope": scope, "limit_nusd": self._wanted[scope]} for scope in sorted(self._wanted)]
        for row in connection.execute(_upsert(connection.dialect.name, rows)):
            self._accounts[row.scope] = Account(
                row.scope, row.limit_nusd, row.spent_nusd, row.reserved_nusd, row.spent_nusd, row.reserved_nusd
            )

    def account(self, scope: str) -> Account:
        return self._accounts[scope]

    def fits(self, scopes: Sequence[str], nusd: int | None) -> bool:
        """Whether a call may begin that costs this much at its worst; an unknown cost fits no cap."""
        return not scopes or (nusd is not None and all(self._accounts[scope].room >= nusd for scope in scopes))

    def reserve(self, scopes: Sequence[str], nusd: int | None) -> None:
        """A call begins. It must fit."""
        for scope in scopes:
            self._accounts[scope].reserved += nusd or 0

    def settle(self, scopes: Sequence[str], *, reserved: int, spent: int) -> None:
        """What is reserved and spent changes by so much, since a call ended or its cost became known."""
        for scope in scopes:
            self._accounts[scope].reserved += reserved
            self._accounts[scope].spent += spent

    def mark_reached(self, scopes: Iterable[str]) -> None:
        """Nothing under way can make room here for a call that was held back."""
        for scope in scopes:
            self._accounts[scope].is_reached = True

    def write(self, connection: Connection) -> None:
        """Writes what has changed: one row a budget, however many calls began and ended."""
        changed = [
            {
                "which": one.scope,
                "spent_by": one.spent - one.spent_before,
                "reserved_by": one.reserved - one.reserved_before,
                "reached": one.is_reached,
            }
            for one in self._accounts.values()
            if one.is_reached or (one.spent, one.reserved) != (one.spent_before, one.reserved_before)
        ]
        if changed:
            connection.execute(_CHANGE, changed)


_CHANGE = (
    update(budgets)
    .where(budgets.c.scope == bindparam("which"))
    .values(
        spent_nusd=budgets.c.spent_nusd + bindparam("spent_by"),
        reserved_nusd=budgets.c.reserved_nusd + bindparam("reserved_by"),
        reached_at=case(
            (and_(budgets.c.reached_at.is_(None), bindparam("reached", type_=Boolean)), now()),
            else_=budgets.c.reached_at,
        ),
    )
)


def _upsert(dialect_name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Locks budgets in the order of ``rows``, also those that others are making at this moment."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    statement = dialect.insert(budgets).values(
        [{**row, "spent_nusd": 0, "reserved_nusd": 0, "reached_at": None} for row in rows]
    )
    given = statement.excluded.limit_nusd
    is_same = or_(given == _AS_IT_IS, given == budgets.c.limit_nusd)
    return statement.on_conflict_do_update(
        index_elements=["scope"],
        set_={
            "limit_nusd": case((is_same, budgets.c.limit_nusd), else_=given),
            "reached_at": case((is_same, budgets.c.reached_at), else_=None),
        },
    ).returning(budgets.c.scope, budgets.c.limit_nusd, budgets.c.spent_nusd, budgets.c.reserved_nusd)


# What attempts count.


def charge(cost_nusd: int | None, reserved_nusd: int | None) -> int:
    """What an attempt that has ended counts: its cost, or its worst case where the cost is not known."""
    return (reserved_nusd or 0) if cost_nusd is None else cost_nusd


def scopes_in(budgets_json: str | None) -> list[str]:
    """The scopes that an attempt's row names."""
    return [] if budgets_json is None else orjson.loads(budgets_json)


_UNSETTLED = (
    select(attempts.c.id, attempts.c.outcome, attempts.c.cost_nusd, attempts.c.reserved_nusd, attempts.c.budgets)
    .where(
        attempts.c.id.in_(bindparam("ids", expanding=True)),
        attempts.c.budgets.is_not(None),
        or_(attempts.c.outcome == "started", attempts.c.outcome == "unknown"),
    )
    .order_by(attempts.c.id)
    .with_for_update()
)


def unsettled(connection: Connection, attempt_ids: Sequence[str]) -> dict[str, Any]:
    """Those of the attempts under a cap whose answer would still count, as they are before it; locked."""
    if not attempt_ids:
        return {}
    return {row.id: row for row in connection.execute(_UNSETTLED, {"ids": sorted(attempt_ids)})}


_CHARGED = func.coalesce(attempts.c.cost_nusd, attempts.c.reserved_nusd, 0)


def charged_to(connection: Connection, task_ids: Sequence[str]) -> dict[str, int]:
    """What tasks count against their own caps: all their attempts, those of unknown cost at their worst case."""
    if not task_ids:
        return {}
    total = select(attempts.c.task_id, func.sum(_CHARGED)).where(attempts.c.task_id.in_(sorted(task_ids)))
    return {row[0]: int(row[1]) for row in connection.execute(total.group_by(attempts.c.task_id))}


# For people.


@dataclass(frozen=True, slots=True)
class Budget:
    """How a cap stands, in nano-USD."""

    limit_nusd: int
    spent_nusd: int = 0
    reserved_nusd: int = 0
    reached_at: datetime | None = None
    """Since when it holds calls back that nothing under way can make room for; None where it does not."""


def read_budgets(connection: Connection, caps: Iterable[Cap]) -> list[tuple[Cap, Budget]]:
    """How these caps stand now; one that no call was made under yet has spent nothing."""
    at = connection.execute(select(now())).scalar_one()
    scopes = {cap.scope(at): cap for cap in caps}
    rows = {row.scope: row for row in connection.execute(select(budgets).where(budgets.c.scope.in_(sorted(scopes))))}
    found = []
    for scope, cap in scopes.items():
        row = rows.get(scope)
        standing = (row.spent_nusd, row.reserved_nusd, row.reached_at) if row is not None else ()
        found.append((cap, Budget(cap.limit_nusd, *standing)))
    return found


def read_batch_cap(connection: Connection, batch_id: str) -> Cap | None:
    """A batch's own cap; None where it has none."""
    columns = select(batches.c.max_cost_nusd, batches.c.on_cap)
    row = connection.execute(columns.where(batches.c.id == batch_id)).one()
    return None if row.max_cost_nusd is None else batch_cap(batch_id, row.max_cost_nusd, row.on_cap)


def set_batch_cap(connection: Connection, batch_id: str, limit_nusd: int) -> None:
    """Raises or lowers a batch's cap. The next claims go by it; what waits for room is due now.

    Raises:
        InvalidTask: the batch has no cap, so what it has spent was not counted.
    """
    capped = update(batches).where(batches.c.id == batch_id, batches.c.max_cost_nusd.is_not(None))
    if connection.execute(capped.values(max_cost_nusd=limit_nusd)).rowcount == 0:
        raise InvalidTask("can be changed, not added: this batch was submitted without one", field="max_cost")
    waiting = update(chunks).where(chunks.c.batch_id == batch_id, chunks.c.published_at.is_(None))
    connection.execute(waiting.where(chunks.c.not_before > now()).values(not_before=now()))
