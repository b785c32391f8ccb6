"""Tasks with a secret in every place that may hold one, and a search for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, select, type_coerce

from tierq_shared.ids import new_id
from tierq_shared.store.clock import now
from tierq_shared.store.outcomes import Ended
from tierq_shared.store.tables import attempts, cache, evidence, metadata
from unit.store.installation import Installation, new_task, step

ANSWERED = Ended("succeeded", output='"the secret answer"')
REFUSED = Ended("failed", error_code="refused", error="it said the secret error")


def plant(here: Installation, key: str | None = None, ended: Ended = ANSWERED, **fields: Any) -> str:
    """A task that has ended, with secrets in input, output, quoted errors, evidence and the cache; its id."""
    batch = here.submit([new_task(key, f"the secret input {new_id()}", constraints='{"cache":true}', **fields)])
    (id_,) = here.ids(batch)
    worker = here.worker(fields.get("tier", "small"))
    here.commit(worker, step(here.claim_one(worker, id_), ended))
    here.finish(batch)
    here.set(attempts, attempts.c.task_id == id_, error="the secret quote")
    judge(here, id_)
    return id_


def judge(here: Installation, id_: str, sample: str | None = None) -> None:
    """Evidence of a task's answer."""
    said = {"details": '{"given":"the secret answer"}', "score": 1.0, "created_at": now()}
    names = {"type": "classify", "name": "triage", "tier": "small", "deployment": "mini", "model": "m"}
    values = {"task_id": id_, "sample": sample or id_, "source": "evaluation", "input_tokens": 5, "failed": False}
    here.put(evidence, id=new_id(), **values, **names, **said)


def secrets_of(here: Installation, id_: str) -> list[str]:
    """Where a task has secrets left, as `table.column`."""
    found = []
    for table in metadata.sorted_tables:
        named = next((table.c[name] for name in ("task_id", "id") if name in table.c), None)
        rows = [] if named is None else here.rows(table, named == id_)
        values = [(name, str(value)) for row in rows for name, value in row._mapping.items()]
        found += [f"{table.name}.{name}" for name, value in values if "secret" in value]
    return sorted({*found, *(["tierq_cache"] if here.count(cache, cache.c.task_id == id_) else [])})


EVERYWHERE = [
    "tierq_attempt.error",
    "tierq_cache",
    "tierq_evidence.details",
    "tierq_payload.input",
    "tierq_payload.output",
]
"""Where an answered task has them."""


def as_stored(here: Installation, column: Any) -> list[str]:
    """What a column holds, as it is in the database."""
    with here.store.reading() as connection:
        return [text for text in connection.execute(select(type_coerce(column, Text))).scalars() if text is not None]


def figures(here: Installation, id_: str) -> tuple[Any, ...]:
    """What must stay of a task."""
    row = here.task(id_)
    calls = [(call.outcome, call.cost_nusd, call.input_tokens, call.latency_ms) for call in here.ledger(id_)]
    return row.state, row.tier, row.cost_nusd, row.finished_at, calls, here.tally_counts(row.batch_id)
