"""`store_input=False`: the input goes with the commit that ends its task, wherever that is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.jobs import SETTINGS
from tierq.intake import Intake
from tierq_shared.errors import InvalidTask
from tierq_shared.store import cache, dead_letters, shadows, sweeps
from tierq_shared.store.clock import now
from tierq_shared.store.outcomes import Requeued
from tierq_shared.store.tables import attempts, payloads, tasks
from tierq_shared.tasks import Generate
from unit.store.installation import FAILED, SUCCEEDED, Installation, new_task, step

UNKEPT = '{"store_input":false}'

pytestmark = pytest.mark.timeout(60)


def has_input(here: Installation, id_: str) -> bool:
    return here.one(payloads, payloads.c.task_id == id_).input is not None


def commit(here: Installation, id_: str, ended: object) -> None:
    worker = here.worker()
    here.commit(worker, step(here.claim_one(worker, id_), ended))  # type: ignore[arg-type]


def expire(here: Installation, id_: str) -> None:
    here.set(tasks, tasks.c.id == id_, deadline=now(-1))
    here.store.write(lambda c: sweeps.expire_tasks(c, "sweeper"))


def cancel(here: Installation, id_: str) -> None:
    batch = here.task(id_).batch_id
    here.cancel(batch)
    here.store.write(lambda c: sweeps.cancel_tasks(c, "sweeper", batch, -1))


def exhaust(here: Installation, id_: str) -> None:
    worker = here.worker()
    here.claim_one(worker, id_)
    here.kill(worker)
    here.settle(worker, max_attempts=1)


def answer_from_the_cache(here: Installation, id_: str) -> None:
    here.set(tasks, tasks.c.id == id_, constraints='{"cache":true,"store_input":false}')
    (source,) = here.ids(here.submit([new_task(constraints='{"cache":true}')]))
    commit(here, source, SUCCEEDED)
    claims = here.claim(worker := here.worker(), [id_])
    here.store.write(lambda c: cache.give_answers(c, worker, claims.answered))


ENDS: dict[str, Callable[[Installation, str], None]] = {
    "succeeded": lambda here, id_: commit(here, id_, SUCCEEDED),
    "failed": lambda here, id_: commit(here, id_, FAILED),
    "expired": expire,
    "cancelled": cancel,
    "given up": exhaust,
    "answered": answer_from_the_cache,
}


@pytest.mark.parametrize("end", ENDS)
def test_it_goes_with_every_end(here: Installation, end: str) -> None:
    (id_,) = here.ids(here.submit([new_task(constraints=UNKEPT)]))
    assert has_input(here, id_)
    ENDS[end](here, id_)
    assert here.task(id_).finished_at is not None
    assert not has_input(here, id_)
    assert here.read(shadows.answered, [id_]) == []


@pytest.mark.parametrize("constraints", [None, '{"pinned":true}', '{"require":{"region":"\\"store_input\\":false"}}'])
def test_others_stay(here: Installation, constraints: str | None) -> None:
    (id_,) = here.ids(here.submit([new_task(constraints=constraints)]))
    commit(here, id_, SUCCEEDED)
    assert has_input(here, id_)


def test_it_stays_while_the_task_goes_on(here: Installation) -> None:
    (id_,) = here.ids(here.submit([new_task(constraints=UNKEPT)]))
    commit(here, id_, Requeued("large", reason="escalated"))
    assert has_input(here, id_)


def test_a_failed_one_is_not_sent_again_and_that_is_said(here: Installation) -> None:
    batch = here.submit([new_task(constraints=UNKEPT), new_task()])
    gone, kept = here.ids(batch)
    for id_ in (gone, kept):
        commit(here, id_, FAILED)
    here.finish(batch)
    done = dead_letters.retry(here.store, batch, ["refused"])
    assert (done.queued, done.erased, done.total) == ({"refused": 1}, {"refused": 1}, 1)
    assert (here.task(gone).state, here.task(kept).state) == ("failed", "queued")


def test_a_task_that_was_queued_without_its_input_is_refused(here: Installation) -> None:
    """As a command of the release before does it, which knows nothing of erased inputs."""
    (id_,), worker = here.ids(here.submit([new_task()])), here.worker()
    here.set(payloads, input=None)
    claims = here.claim(worker, [id_])
    assert [(task.id, refusal.code) for task, refusal in claims.refused] == [(id_, "input_erased")]
    assert here.count(attempts) == 0


def test_the_option_is_kept_with_the_task() -> None:
    intake = Intake(SETTINGS, SETTINGS.make_policy(), now, None)  # type: ignore[arg-type]  # no deadline asks for it
    assert intake.prepare(Generate("Write.", store_input=False), 0).constraints == UNKEPT
    assert intake.prepare(Generate("Write.", store_input=True), 0).constraints is None
    with pytest.raises(InvalidTask, match="'store_input': must be True or False"):
        Generate("Write.", store_input="no")  # type: ignore[arg-type]
