"""Evaluations and evidence rows, as `tierq evaluate` and shadowed tasks leave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert

from tierq_insight.evidence import Evidence
from tierq_shared.ids import new_id
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import evaluations, evidence


def add_evaluation(store: Store, *, label: str | None = None, samples_hash: str = "f" * 64) -> str:
    row = {"id": new_id(), "label": label, "samples_hash": samples_hash, "document": "{}", "created_at": now()}
    store.write(lambda connection: connection.execute(insert(evaluations).values(row)))
    return str(row["id"])


def add_evidence(store: Store, answers: Iterable[Evidence], evaluation_id: str | None = None) -> None:
    """``evaluation_id``: None for live evidence."""
    rows: list[dict[str, Any]] = [_row(one, evaluation_id) for one in answers]
    store.write(lambda connection: connection.execute(insert(evidence).values(created_at=now()), rows))


def _row(one: Evidence, evaluation_id: str | None) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in Evidence.__slots__}
    source = "evaluation" if evaluation_id else "shadow"
    ids = {"id": new_id(), "task_id": new_id(), "evaluation_id": evaluation_id}
    return fields | ids | {"source": source, "model": f"model of {one.deployment}"}
