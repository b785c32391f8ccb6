"""What a batch spent, by model, from the ledger: failed, re-asked and escalated calls count like the others."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, select

from tierq_shared.money import Usage
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks


@dataclass(frozen=True, slots=True)
class ModelSpending:
    """The calls of one batch to one model."""

    model: str
    attempts: int
    succeeded: int
    usage: Usage
    cost_nusd: int
    unpriced: int
    """Attempts whose cost is not known, and not in ``cost_nusd``."""


def by_model(store: Store, batch_id: str) -> list[ModelSpending]:
    """The models that a batch called, the dearest first."""
    statement = (
        select(
            attempts.c.model,
            func.count().label("attempts"),
            func.sum(case((attempts.c.outcome == "succeeded", 1), else_=0)).label("succeeded"),
            *[func.coalesce(func.sum(attempts.c[name]), 0).label(name) for name in _COUNTS],
            (func.count() - func.count(attempts.c.cost_nusd)).label("unpriced"),
        )
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(tasks.c.batch_id == batch_id)
        .group_by(attempts.c.model)
    )
    with store.reading() as connection:
        rows = connection.execute(statement).all()
    found = [
        ModelSpending(
            row.model,
            row.attempts,
            int(row.succeeded),
            Usage(*(int(getattr(row, name)) for name in _TOKENS)),
            int(row.cost_nusd),
            row.unpriced,
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (-one.cost_nusd, one.model))


_TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_COUNTS = (*_TOKENS, "cost_nusd")
