"""Which calls and tasks a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from tierq_shared.store.tables import attempts, tasks


@dataclass(frozen=True, slots=True)
class Scope:
    """One batch or all, of a span of time or of all time.

    A call belongs to the time at which it began, a task to the time at which it was submitted.
    """

    batch_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Up to then, but not then itself."""

    def calls(self, table: Any = attempts) -> list[ColumnElement[bool]]:
        """What holds of the calls, where tasks are not joined."""
        found = self.joined_calls(table)
        if self.batch_id is not None:
            # In place of what holds of the tasks: the batch's ids by their index, then their calls by theirs.
            found[0] = table.c.task_id.in_(self._of_batch())
        return found

    def joined_calls(self, table: Any = attempts) -> list[ColumnElement[bool]]:
        """What holds of the calls, where their tasks are joined."""
        found: list[ColumnElement[bool]] = [] if self.batch_id is None else [tasks.c.batch_id == self.batch_id]
        return found + self._between(table.c.started_at)

    def tasks(self, table: Any = tasks) -> list[ColumnElement[bool]]:
        """What holds of the tasks."""
        found: list[ColumnElement[bool]] = [] if self.batch_id is None else [table.c.batch_id == self.batch_id]
        return found + self._between(table.c.created_at)

    def _of_batch(self) -> Select[Any]:
        return select(tasks.c.id).where(tasks.c.batch_id == self.batch_id)

    def _between(self, column: Any) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.since is not None:
            found.append(column >= self.since)
        if self.until is not None:
            found.append(column < self.until)
        return found
