"""What the store says of tasks: their attempts in order, and the rows themselves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from support.servers import Site
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, chunks, tasks


class Ledger:
    """Reads a site's tables. To be closed."""

    def __init__(self, site: Site) -> None:
        self._store = Store(site.database_url)

    def attempts(self, batch_id: str) -> list[Any]:
        """The attempts of a batch's tasks, by task and then in their order."""
        of_batch = select(attempts).join(tasks, tasks.c.id == attempts.c.task_id).where(tasks.c.batch_id == batch_id)
        return self._all(of_batch.order_by(tasks.c.position, attempts.c.ordinal))

    def tasks(self, batch_id: str) -> list[Any]:
        """A batch's tasks, in the order of submission."""
        return self._all(select(tasks).where(tasks.c.batch_id == batch_id).order_by(tasks.c.position))

    def chunks(self, batch_id: str) -> list[Any]:
        return self._all(select(chunks).where(chunks.c.batch_id == batch_id))

    def close(self) -> None:
        self._store.close()

    def _all(self, statement: Any) -> list[Any]:
        with self._store.reading() as connection:
            return list(connection.execute(statement))
