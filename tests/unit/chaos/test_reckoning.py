"""The reckoning sees each way in which the ledger and the provider's side can differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.reckoning import Reckoning, reckon
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tallies, tasks
from unit.store.installation import SUCCEEDED, Installation, new_task, opened, step


@dataclass
class Ended:
    """A batch of one whose task has succeeded, and its attempt's id."""

    here: Installation
    task: str
    attempt: str

    def reckoned(self, *served: str, submitted: int = 1) -> Reckoning:
        return self.here.read(reckon, submitted, {id_: served.count(id_) for id_ in served})


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    url = f"sqlite:///{tmp_path}/tierq.db"
    store = Store(url)
    schema.migrate(store)
    store.close()
    with opened(url) as here:
        batch = here.submit([new_task()])
        worker, (task,) = here.worker(), here.ids(batch)
        taken = here.claim_one(worker, task)
        here.commit(worker, step(taken, SUCCEEDED))
        here.finish(batch)
        here.store.write(lambda connection: connection.exec_driver_sql("DELETE FROM tierq_chunk"))
        yield Ended(here, task, taken[1].id)


def test_two_sides_that_agree_have_every_zero(ended: Ended) -> None:
    assert not ended.reckoned(ended.attempt).findings()


def test_a_task_without_an_end_is_lost(ended: Ended) -> None:
    assert ended.reckoned(ended.attempt, submitted=2).lost == 1


def test_what_only_the_provider_knows_is_a_difference(ended: Ended) -> None:
    assert ended.reckoned(ended.attempt, "stranger").not_in_ledger == 1


def test_what_only_the_ledger_knows_is_a_difference(ended: Ended) -> None:
    assert ended.reckoned().not_served == 1


def test_an_attempt_that_was_served_again_is_a_difference(ended: Ended) -> None:
    assert ended.reckoned(ended.attempt, ended.attempt).served_again == 1


def test_spending_that_the_ledger_calls_free_is_a_difference(ended: Ended) -> None:
    ended.here.set(attempts, attempts.c.id == ended.attempt, outcome="cancelled", http_status=None, cost_nusd=0)
    assert ended.reckoned(ended.attempt).unseen == 1


def test_an_outcome_counted_twice_is_double(ended: Ended) -> None:
    ended.here.set(tallies, succeeded=2)
    assert ended.reckoned(ended.attempt).double == 1


def test_a_task_that_was_answered_twice_is_paid_twice(ended: Ended) -> None:
    ended.here.set(tasks, tasks.c.id == ended.task, state="queued")
    worker = ended.here.worker()
    _, attempt = ended.here.claim_one(worker, ended.task)
    ended.here.set(attempts, attempts.c.id == attempt.id, outcome="unknown")
    reckoning = ended.reckoned(ended.attempt, attempt.id)
    assert (reckoning.paid_twice, reckoning.unknown_served, reckoning.unknown_not_served) == (1, 1, 0)


@pytest.mark.parametrize(
    ("finding", "changed"),
    [("attempts still started", {"outcome": "started"}), ("costs that are not", {"cost_nusd": 11})],
)
def test_what_was_left_is_found(ended: Ended, finding: str, changed: dict[str, object]) -> None:
    ended.here.set(attempts, attempts.c.id == ended.attempt, **changed)
    assert [one for one in ended.reckoned(ended.attempt).findings() if one.startswith(finding)]
