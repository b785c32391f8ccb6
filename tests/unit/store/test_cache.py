"""The result cache in the store: who is answered, who waits, and who makes the answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.jobs import SETTINGS
from support.statements import statements
from tierq.intake import Intake
from tierq_shared.store import cache as caching
from tierq_shared.store import reading
from tierq_shared.store.claims import Claims
from tierq_shared.store.clock import now
from tierq_shared.store.outcomes import Ended, Requeued
from tierq_shared.store.tables import cache, payloads, tasks
from tierq_shared.tasks import Generate
from unit.store.installation import FAILED, SUCCEEDED, Installation, new_task, step

ANY_AGE = '{"cache":true}'
A_MINUTE = '{"cache":60}'

pytestmark = pytest.mark.timeout(60)


def cached(here: Installation, *texts: str, allowed: str = ANY_AGE, **fields: Any) -> list[str]:
    """Tasks in a batch of their own that allow the cache; their ids."""
    return here.ids(here.submit([new_task(text=text, constraints=allowed, **fields) for text in texts]))


def look(here: Installation, worker: str, ids: list[str], tier: str = "small") -> Claims:
    """A claim, with what the cache answers given, as a recorder does it."""
    found = here.claim(worker, ids, tier)
    here.store.write(lambda c: caching.give_answers(c, worker, found.answered))
    here.finish(*{task.batch_id for task, _ in found.answered})
    return found


def answer_of(here: Installation, id_: str) -> str | None:
    return here.one(payloads, payloads.c.task_id == id_).output


@pytest.fixture
def worker(here: Installation) -> str:
    return here.worker()


@pytest.fixture
def source(here: Installation, worker: str) -> str:
    """A task whose answer to `the text` is stored."""
    (id_,) = cached(here, "the text")
    here.commit(worker, step(here.claim_one(worker, id_), Ended("succeeded", output='"bug"', confidence=0.9)))
    return id_


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({"cache": True}, ANY_AGE),
        ({"cache": timedelta(minutes=1)}, '{"cache":60.0}'),
        ({"cache": False}, None),
        ({}, None),
        ({"cache": True, "require": {"region": "eu"}}, '{"require":{"region":"eu"}}'),
    ],
)
def test_what_is_stored_with_a_task(options: Any, stored: str | None) -> None:
    intake = Intake(SETTINGS, SETTINGS.make_policy(), lambda: datetime.now(UTC), None)
    assert intake.prepare(Generate("Write.", **options), 0).constraints == stored
    assert caching.max_age_s(stored) == {ANY_AGE: caching.LIFE_S, '{"cache":60.0}': 60.0}.get(stored or "")


def test_an_identical_task_is_given_the_answer_for_nothing(here: Installation, worker: str, source: str) -> None:
    batch = here.submit([new_task(text="the text", constraints=ANY_AGE)])
    (id_,) = here.ids(batch)
    found = look(here, worker, [id_])
    assert (found.taken, found.left, len(found.answered)) == ([], [], 1)
    row = here.task(id_)
    assert (row.state, row.cached_from, row.cost_nusd, row.confidence) == ("succeeded", source, 0, 0.9)
    assert (row.attempts, row.chunk_id, answer_of(here, id_)) == (0, None, '"bug"')
    assert here.ledger(id_) == []
    progress = here.progress(batch)
    assert (progress.state, progress.succeeded, progress.cost_nusd) == ("finished", 1, 0)


@pytest.mark.parametrize("other", [{"text": "another text"}, {"text": "the text", "tier": "large"}])
def test_another_input_or_tier_is_no_hit(here: Installation, worker: str, source: str, other: Any) -> None:
    tier = other.get("tier", "small")
    ids = here.ids(here.submit([new_task(constraints=ANY_AGE, **other)]))
    assert len(look(here, worker, ids, tier).taken) == 1


def test_a_task_that_does_not_allow_it_neither_takes_nor_gives(here: Installation, worker: str, source: str) -> None:
    plain = here.ids(here.submit([new_task(text="the text"), new_task(text="new")]))
    taken = look(here, worker, plain).taken
    assert len(taken) == 2
    here.commit(worker, *[step(one, SUCCEEDED) for one in taken])
    assert here.count(cache) == 1


def test_an_answer_may_be_too_old_for_one_task_and_not_for_another(
    here: Installation, worker: str, source: str
) -> None:
    here.set(cache, created_at=now(-61))
    strict, lax = cached(here, "the text", allowed=A_MINUTE), cached(here, "the text")
    found = look(here, worker, [*strict, *lax])
    assert [task.id for task, _ in found.answered] == lax
    ((fresh, attempt),) = found.taken
    assert fresh.id == strict[0]
    here.commit(worker, step((fresh, attempt), Ended("succeeded", output='"billing"')))
    (later,) = cached(here, "the text", allowed=A_MINUTE)
    look(here, worker, [later])
    assert (here.task(later).cached_from, answer_of(here, later)) == (fresh.id, '"billing"')


@pytest.mark.parametrize("gone", ["erased", "expired", "deleted"])
def test_an_answer_that_is_gone_counts_as_absent(here: Installation, worker: str, source: str, gone: str) -> None:
    if gone == "erased":
        here.set(payloads, payloads.c.task_id == source, output=None)
    elif gone == "expired":
        here.set(cache, expires_at=now(-1))
    else:
        here.store.write(lambda c: c.execute(payloads.delete().where(payloads.c.task_id == source)))
        here.store.write(lambda c: c.execute(tasks.delete().where(tasks.c.id == source)))
    (id_,) = cached(here, "the text")
    here.commit(worker, step(here.claim_one(worker, id_), SUCCEEDED))
    (entry,) = here.rows(cache)
    assert (entry.task_id, entry.is_ready) == (id_, True)


def test_of_a_hundred_identical_tasks_one_calls_and_the_others_wait_for_it(here: Installation, worker: str) -> None:
    ids = cached(here, *["the text"] * 100)
    found = look(here, worker, ids)
    ((owner, attempt),) = found.taken
    assert sorted(found.left) == sorted(set(ids) - {owner.id})
    assert set(found.held) == set(found.left)
    assert set(found.held.values()) == {caching.SOONEST_S}
    assert here.count(tasks, tasks.c.state == "queued") == 99
    here.commit(worker, step((owner, attempt), SUCCEEDED, cost=10))
    look(here, worker, found.left)
    assert here.count(tasks, tasks.c.cached_from == owner.id, tasks.c.state == "succeeded") == 99
    progress = here.progress(owner.batch_id)
    assert (progress.state, progress.succeeded, progress.cost_nusd) == ("finished", 100, 10)


def test_who_waits_looks_again_after_as_long_as_the_call_took_so_far(here: Installation, worker: str) -> None:
    owner, waiting = cached(here, "the text", "the text")
    here.claim_one(worker, owner)
    waits = []
    for began in (0, -2, -600):
        here.set(cache, created_at=now(began))
        waits.append(look(here, worker, [waiting]).held[waiting])
    assert waits[0] == caching.SOONEST_S
    assert 2 <= waits[1] < 3
    assert waits[2] == 5.0


@pytest.mark.parametrize("end", ["failed", "escalated", "runs above", "queued", "dies", "cancelled", "erased"])
def test_an_owner_that_gives_no_answer_holds_nobody_up(here: Installation, worker: str, end: str) -> None:
    owner, waiting = cached(here, "the text", "the text")
    taken = here.claim_one(worker, owner)
    assert look(here, worker, [waiting]).left == [waiting]
    other = here.worker()
    if end == "failed":
        here.commit(worker, step(taken, FAILED, outcome="refused"))
    elif end in ("escalated", "runs above"):
        here.commit(worker, step(taken, Requeued("large", reason="escalated"), outcome="invalid_output"))
        if end == "runs above":
            here.claim_one(worker, owner, "large")
    elif end == "queued":
        here.commit(worker, step(taken, Requeued("small", after_s=60.0), outcome="overloaded"))
    elif end == "dies":
        here.kill(worker)
        here.settle(worker)
    elif end == "cancelled":
        here.commit(worker, step(taken, Ended("cancelled", error_code="cancelled"), outcome="cancelled"))
    else:
        here.store.write(lambda c: c.execute(tasks.delete().where(tasks.c.id == owner)))
    here.commit(other, step(here.claim_one(other, waiting), SUCCEEDED))
    entry = here.one(cache, cache.c.key == caching.key_of(here.task(waiting).payload_hash, "small"))
    assert (entry.task_id, entry.is_ready) == (waiting, True)


def test_an_escalated_answer_is_kept_under_the_tier_that_gave_it(here: Installation, worker: str) -> None:
    owner, on_small = cached(here, "the text", "the text")
    taken = here.claim_one(worker, owner)
    here.commit(worker, step(taken, Requeued("large", reason="escalated"), outcome="invalid_output"))
    here.commit(worker, step(here.claim_one(worker, owner, "large"), SUCCEEDED))
    (on_large,) = cached(here, "the text", tier="large")
    look(here, worker, [on_large], "large")
    assert here.task(on_large).cached_from == owner
    assert len(look(here, worker, [on_small]).taken) == 1


def test_a_killed_owner_is_answered_by_whoever_took_over(here: Installation, worker: str) -> None:
    owner, second = cached(here, "the text", "the text")
    late = here.claim_one(worker, owner)
    here.kill(worker)
    here.settle(worker)
    other = here.worker()
    taken = here.claim_one(other, second)
    assert look(here, other, [owner]).left == [owner]
    here.commit(other, step(taken, SUCCEEDED))
    here.commit(worker, step(late, Ended("succeeded", output='"billing"')))
    look(here, other, [owner])
    row = here.task(owner)
    assert (row.state, row.cached_from, answer_of(here, owner)) == ("succeeded", second, '"bug"')
    assert row.cost_nusd == 10, "its own call stays charged"


def test_an_answer_that_was_kept_for_want_of_a_higher_tier_is_for_nobody_else(here: Installation, worker: str) -> None:
    owner, other = cached(here, "the text", "the text")
    unsure = Ended("succeeded", output='"bug"', confidence=0.3, is_unsure=True)
    here.commit(worker, step(here.claim_one(worker, owner), unsure))
    assert len(look(here, worker, [other]).taken) == 1


def test_an_entry_goes_to_the_task_that_is_called(here: Installation, worker: str) -> None:
    """The first of two identical tasks finds no deployment, such as one under a cap of its own."""
    capped, free = cached(here, "the text", max_cost_nusd=1)[0], cached(here, "the text")[0]
    found = look(here, worker, [capped, free])
    assert ([task.id for task, _ in found.taken], found.left) == ([free], [capped])
    assert here.one(cache).task_id == free
    here.commit(worker, step(found.taken[0], SUCCEEDED))
    look(here, worker, [capped])
    assert here.task(capped).cached_from == free


def test_under_a_reached_cap_answers_are_given_and_nothing_is_reserved(
    here: Installation, worker: str, source: str
) -> None:
    batch = here.submit([new_task(text="the text", constraints=ANY_AGE)], max_cost_nusd=1)
    look(here, worker, here.ids(batch))
    assert here.progress(batch).succeeded == 1
    assert here.budgets() == {f"batch:{batch}": (1, 0, 0)}


def test_workers_that_claim_at_once_share_one_call(here: Installation) -> None:
    texts = [f"text {number}" for number in range(8)]
    batches = [cached(here, *texts), cached(here, *reversed(texts))]
    workers = [here.worker() for _ in range(4)]
    halves = [batches[0][:4], batches[1][4:], batches[0][4:], batches[1][:4]]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: here.claim(*pair), zip(workers, halves, strict=True)))
    inputs = [task.input_json for claim in found for task, _ in claim.taken]
    assert sorted(inputs) == sorted(set(inputs))
    assert len(inputs) == 8
    assert sum(len(claim.left) for claim in found) == 8


def test_others_ask_nothing_more_of_the_store(here: Installation, worker: str, source: str) -> None:
    plain = here.ids(here.submit([new_task(text="the text"), new_task(text="x", constraints='{"pinned":true}')]))
    with statements(here.store) as seen:
        taken = here.claim(worker, plain).taken
        here.commit(worker, *[step(one, SUCCEEDED) for one in taken])
    ids = cached(here, "y", "z")
    with statements(here.store) as seen_cached:
        taken = here.claim(worker, ids).taken
        here.commit(worker, *[step(one, SUCCEEDED) for one in taken])
    assert not any("tierq_cache" in one for one in seen)
    assert len(seen_cached) == len(seen) + 3, "look up and own at the claim, keep at the answer"


def test_old_entries_are_deleted_in_slices(here: Installation, worker: str, source: str) -> None:
    (id_,) = cached(here, "kept", allowed=f'{{"cache":{caching.LIFE_S * 2}}}')
    here.commit(worker, step(here.claim_one(worker, id_), SUCCEEDED))
    spans = {row.task_id: (row.expires_at - here.now()).days for row in here.rows(cache)}
    assert spans == {source: 29, id_: 59}
    assert here.store.write(caching.forget_expired) == 0
    here.set(cache, cache.c.task_id == source, expires_at=now(-1))
    assert here.store.write(caching.forget_expired) == 1
    assert [row.task_id for row in here.rows(cache)] == [id_]


def test_an_outcome_says_that_it_was_cached(here: Installation, worker: str, source: str) -> None:
    batch = here.submit([new_task(text="the text", constraints=ANY_AGE)])
    look(here, worker, here.ids(batch))
    (outcome,) = here.read(lambda c: reading.outcomes(c, batch, [0], {}, lambda _spec, _type, value: value))
    assert (outcome.ok, outcome.output, outcome.cached, outcome.cost_nusd) == (True, "bug", True, 0)
    assert (outcome.deployment, outcome.model, outcome.attempts) == (None, None, 0)
