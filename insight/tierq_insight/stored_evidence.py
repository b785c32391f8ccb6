"""Evidence as it lies in SQL: judged answers of evaluations, and of live tasks that were shadowed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from tierq_insight.evidence import Evidence
from tierq_shared.checks import did_you_mean
from tierq_shared.errors import ConfigurationError
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import evaluations, evidence

_SHOWN_IDS = 5
_HASH_CHARS = 16
"""Of a sample file's hash, to tell the samples of one file from those of another."""


def load(store: Store, *, evaluation_ids: Sequence[str] | None = None, since: datetime | None = None) -> list[Evidence]:
    """All evidence, oldest first; or that of some evaluations alone, or what was made at or after a time."""
    # The keys of samples, such as `line 2`, mean something inside their own file only.
    columns = [column for column in evidence.columns if column.name not in ("details", "created_at")]
    statement = (
        select(*columns, evaluations.c.samples_hash)
        .join_from(evidence, evaluations, evaluations.c.id == evidence.c.evaluation_id, isouter=True)
        .order_by(evidence.c.id)
    )
    if evaluation_ids is not None:
        statement = statement.where(evidence.c.evaluation_id.in_(list(evaluation_ids)))
    if since is not None:
        statement = statement.where(evidence.c.created_at >= since)
    with store.reading() as connection:
        return [_evidence(row) for row in connection.execute(statement)]


def find_evaluation(store: Store, prefix: str) -> str:
    """The id of the one evaluation whose id begins like this, or whose label this is.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    first = prefix.rstrip("…").lower()
    is_id = (evaluations.c.id >= first) & (evaluations.c.id < f"{first}g")
    statement = select(evaluations.c.id).where(is_id | (evaluations.c.label == prefix))
    with store.reading() as connection:
        found = list(connection.execute(statement.order_by(evaluations.c.id).limit(_SHOWN_IDS)).scalars())
        labels = list(connection.execute(select(evaluations.c.label)).scalars())
    if len(found) == 1:
        return str(found[0])
    if not found:
        hint = did_you_mean(prefix, [label for label in labels if label])
        raise ConfigurationError(f"no evaluation has an id that begins with {prefix!r}, nor that label{hint}")
    raise ConfigurationError(f"more than one evaluation is meant by {prefix!r}: {', '.join(found)}")


def _evidence(row: Any) -> Evidence:
    return Evidence(
        sample=f"{row.samples_hash[:_HASH_CHARS]}:{row.sample}" if row.samples_hash else row.sample,
        type=row.type,
        name=row.name,
        input_tokens=row.input_tokens,
        tier=row.tier,
        deployment=row.deployment,
        score=row.score,
        failed=row.failed,
        cost_nusd=row.cost_nusd,
        latency_ms=row.latency_ms,
        confidence=row.confidence,
        source=row.source,
    )
