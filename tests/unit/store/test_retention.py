"""`[retention]`: what is erased when, what is left, and how a pass goes on where the last one stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from support.statements import statements
from tierq_shared.ids import first_of, new_id
from tierq_shared.settings import RetentionSettings, WorkerSettings
from tierq_shared.store import dead_letters, erasing, reading, retention
from tierq_shared.store.clock import now
from tierq_shared.store.outcomes import Ended
from tierq_shared.store.tables import attempts, payloads, tasks
from tierq_shared.store.tables import retention as places
from tierq_workers.sweeper import Sweeper
from unit.store.installation import SUCCEEDED, Installation, new_task, step
from unit.store.private import EVERYWHERE, REFUSED, figures, plant, secrets_of

pytestmark = pytest.mark.timeout(60)

DAY = 86_400.0


def age(here: Installation, days: float, *task_ids: str) -> list[str]:
    """Makes tasks of a while ago, with ids of that time; their new ids."""
    at = here.now() - timedelta(days=days)
    aged = [f"{first_of(at)[:12]}{new_id()[12:]}" for _ in task_ids]
    for id_, new in zip(task_ids, aged, strict=True):
        here.set(tasks, tasks.c.id == id_, id=new, created_at=now(-days * DAY), finished_at=now(-days * DAY + 1))
        here.set(payloads, payloads.c.task_id == id_, task_id=new)
        for call in here.ledger(id_):
            here.set(attempts, attempts.c.id == call.id, task_id=new, id=f"{new[:12]}{new_id()[12:]}")
        for table in (erasing.cache, erasing.evidence):
            here.set(table, table.c.task_id == id_, task_id=new)
    return aged


def passed(here: Installation, **kept: float) -> None:
    """A whole pass, as the sweeper makes it."""
    settings = RetentionSettings.model_validate(kept)
    for name, span in here.read(retention.due, settings):
        while here.store.write(lambda c, name=name, span=span: retention.erase_slice(c, name, span)):
            pass


def an_hour_later(here: Installation) -> None:
    here.set(places, passed_at=now(-3_601))


def test_each_kind_goes_in_its_own_time_and_the_figures_stay(here: Installation) -> None:
    old, young = age(here, 40, plant(here))[0], age(here, 2, plant(here))[0]
    before = figures(here, old)
    passed(here, input=30 * DAY)
    assert secrets_of(here, old) == [place for place in EVERYWHERE if place != "tierq_payload.input"]
    passed(here, output=30 * DAY)
    assert secrets_of(here, old) == []
    assert figures(here, old) == before
    passed(here, attempts=30 * DAY)
    assert here.ledger(old) == []
    assert figures(here, old)[:4] == before[:4]
    assert (secrets_of(here, young), len(here.ledger(young))) == (EVERYWHERE, 1)


def test_what_has_not_ended_is_left_and_found_again(here: Installation) -> None:
    batch = here.submit([new_task("K", "the secret input")])
    (waiting,), ended = age(here, 40, *here.ids(batch)), age(here, 39, plant(here))[0]
    here.set(tasks, tasks.c.id == waiting, state="queued", finished_at=None)
    passed(here, input=30 * DAY)
    assert "tierq_payload.input" in secrets_of(here, waiting)
    assert "tierq_payload.input" not in secrets_of(here, ended)
    assert here.one(places).left_at == waiting
    here.set(tasks, tasks.c.id == waiting, state="succeeded", finished_at=now(-31 * DAY))
    passed(here, input=30 * DAY)
    assert "tierq_payload.input" in secrets_of(here, waiting), "a pass that came to its end rests for an hour"
    an_hour_later(here)
    passed(here, input=30 * DAY)
    assert secrets_of(here, waiting) == []
    assert here.one(places).left_at is None


def test_what_ended_lately_is_left_although_it_is_old(here: Installation) -> None:
    (id_,) = age(here, 40, plant(here))
    here.set(tasks, tasks.c.id == id_, finished_at=now(-29 * DAY))
    passed(here, input=30 * DAY, output=30 * DAY, attempts=30 * DAY)
    assert (secrets_of(here, id_), len(here.ledger(id_))) == (EVERYWHERE, 1)


def test_a_long_table_is_gone_through_in_slices_over_many_sweeps(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "WINDOW", 4)
    monkeypatch.setattr(retention, "SLICE", 3)
    batch = here.submit([new_task(text=f"the secret {number}") for number in range(11)])
    ids = age(here, 40, *here.ids(batch))
    here.set(tasks, state="succeeded")
    for _ in range(2):
        assert here.store.write(lambda c: retention.erase_slice(c, "input", DAY))
    left = [id_ for id_ in ids if secrets_of(here, id_)]
    assert 0 < len(left) < 11
    passed(here, input=DAY)
    assert [id_ for id_ in ids if secrets_of(here, id_)] == []


def test_a_pass_that_has_come_to_its_end_costs_one_query(here: Installation) -> None:
    settings = RetentionSettings(input=DAY, output=DAY, attempts=DAY)
    passed(here, input=DAY, output=DAY, attempts=DAY)
    with statements(here.store) as said:
        assert here.read(retention.due, settings) == []
    assert len([one for one in said if "SELECT" in one]) == 1
    assert here.read(retention.due, RetentionSettings()) == []


def test_a_task_that_is_committed_late_is_found_by_a_later_pass(here: Installation) -> None:
    age(here, 40, plant(here))
    passed(here, input=30 * DAY)
    (late,) = age(here, 40 + 1 / 24, plant(here))
    an_hour_later(here)
    passed(here, input=30 * DAY)
    assert "tierq_payload.input" not in secrets_of(here, late)


# The ledger.


def test_the_ledger_stays_for_an_hour_at_the_least_and_while_a_call_is_open(here: Installation) -> None:
    """An answer that comes late is charged to it."""
    fresh, (old,) = plant(here), age(here, 40, plant(here))
    here.set(attempts, attempts.c.task_id == old, outcome="started")
    passed(here, attempts=0)
    assert (len(here.ledger(fresh)), len(here.ledger(old))) == (1, 1)
    here.set(attempts, attempts.c.task_id == old, outcome="unknown")
    an_hour_later(here)
    here.set(places, done_until="", left_at=None)
    passed(here, attempts=0)
    assert (len(here.ledger(fresh)), len(here.ledger(old))) == (1, 0)


def test_outcomes_are_read_without_a_ledger(here: Installation) -> None:
    (id_,) = age(here, 40, plant(here, ended=REFUSED))
    batch = here.task(id_).batch_id
    passed(here, attempts=DAY, output=DAY)
    (outcome,) = here.read(outcomes_of, batch)
    assert (outcome.attempts, outcome.deployment, outcome.cost_nusd) == (1, None, 10)
    assert (outcome.error.code, outcome.error.message) == ("refused", "refused")
    (group,) = here.read(dead_letters.failures, batch).groups
    assert (group.tasks, group.example.attempts) == (1, ())


def outcomes_of(connection: Any, batch_id: str) -> Any:
    return reading.outcomes_after(connection, batch_id, -1, 10, {}, lambda _spec, _type, value: value)


# Sending again.

DOWN = Ended("failed", error_code="all_deployments_failed", error="the secret error")


@pytest.mark.parametrize("kept", [{"input": DAY}, {"attempts": DAY}], ids=["input", "attempts"])
def test_what_was_erased_cannot_be_sent_again(here: Installation, kept: dict[str, float]) -> None:
    """Without its input there is nothing to ask, without its calls nobody would know what it has cost."""
    batch, worker = here.submit([new_task(), new_task(), new_task()]), here.worker()
    old, young, _ = ids = here.ids(batch)
    for id_, ended in zip(ids, (DOWN, DOWN, SUCCEEDED), strict=True):
        here.commit(worker, step(here.claim_one(worker, id_), ended))
    here.finish(batch)
    (old,) = age(here, 40, old)
    passed(here, **kept)
    done = dead_letters.retry(here.store, batch)
    assert (done.queued, done.erased) == ({DOWN.error_code: 1}, {DOWN.error_code: 1})
    assert (here.task(old).state, here.task(young).state) == ("failed", "queued")
    assert dead_letters.retry(here.store, batch).total == 0


def test_what_is_sent_again_is_not_passed_by(here: Installation) -> None:
    (id_,) = age(here, 40, plant(here, ended=DOWN))
    batch, worker = here.task(id_).batch_id, here.worker()
    passed(here, output=30 * DAY)
    assert dead_letters.retry(here.store, batch).total == 1
    here.commit(worker, step(here.claim_one(worker, id_), Ended("succeeded", output='"the secret answer"')))
    here.set(tasks, tasks.c.id == id_, finished_at=now(-31 * DAY))
    an_hour_later(here)
    passed(here, output=30 * DAY)
    assert "tierq_payload.output" not in secrets_of(here, id_)


# The sweeper.


def sweeper(here: Installation, **kept: float) -> Sweeper:
    settings = RetentionSettings.model_validate(kept)
    return Sweeper(here.store, None, WorkerSettings(), lambda _ended: None, kept=settings)  # type: ignore[arg-type]


def test_the_sweeper_keeps_it(here: Installation) -> None:
    (id_,) = age(here, 40, plant(here))
    sweeping = sweeper(here, input=30 * DAY)
    for _ in range(5):
        assert sweeping.sweep("a")
    assert "tierq_payload.input" not in secrets_of(here, id_)


def test_it_goes_without_on_tables_of_the_release_before(on_sqlite: Installation) -> None:
    (id_,) = age(on_sqlite, 40, plant(on_sqlite))
    on_sqlite.store.schema_version = "0005"
    sweeping = sweeper(on_sqlite, input=30 * DAY)
    for _ in range(5):
        assert sweeping.sweep("a")
    assert secrets_of(on_sqlite, id_) == EVERYWHERE
