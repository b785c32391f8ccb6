"""What operators set, as the store keeps it: pauses, what they put off, limits, and priorities."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import select, text

from tierq_shared.deployments import Deployment
from tierq_shared.queues import Chunk
from tierq_shared.store import actions, backlog, controls, schema, submission, sweeps
from tierq_shared.store.clock import now
from tierq_shared.store.controls import NOTHING_SET, Controls, Override
from tierq_shared.store.tables import batches, chunks, tasks
from unit.store.installation import Installation, new_task


def put_off(here: Installation, batch: str, *, tasks_too: bool = False) -> None:
    """A batch's chunks as a worker hands them back while something is paused."""
    here.set(chunks, chunks.c.batch_id == batch, published_at=None, received_at=None, not_before=now(600))
    if tasks_too:
        here.set(tasks, tasks.c.batch_id == batch, not_before=now(600))


def rung(here: Installation) -> set[str]:
    """The batches whose chunks a sweep would ring now."""
    return {chunk.batch_id for chunk in here.read(sweeps.chunks_to_ring)}


def test_pauses_are_set_once_and_ended_once(here: Installation) -> None:
    for scope in ("tier:small", "deployment:mini", "batch:b1"):
        assert here.store.write(partial(controls.pause, scope=scope))
        assert not here.store.write(partial(controls.pause, scope=scope))
    found = here.read(controls.read)
    assert (found.tiers, found.deployments, found.batches) == ({"small"}, {"mini"}, {"b1"})
    assert here.store.write(partial(controls.resume, scope="tier:small"))
    assert not here.store.write(partial(controls.resume, scope="tier:small"))
    assert not here.store.write(partial(controls.resume, scope="tier:large"))
    assert here.read(controls.read).tiers == set()


def test_a_chunk_is_held_by_its_tier_and_by_its_batch() -> None:
    chunk = Chunk("c", "b1", "small", 5, ["t"])
    assert not NOTHING_SET.holds(chunk)
    assert Controls(tiers=frozenset({"small"})).holds(chunk)
    assert Controls(batches=frozenset({"b1"})).holds(chunk)
    assert not Controls(tiers=frozenset({"large"}), batches=frozenset({"b2"})).holds(chunk)


def test_where_pauses_have_ended() -> None:
    before = Controls(tiers=frozenset({"small", "large"}), batches=frozenset({"b1"}))
    assert Controls(tiers=frozenset({"large"})).resumed_since(before) == [("small", None), (None, "b1")]
    assert before.resumed_since(NOTHING_SET) == []
    assert NOTHING_SET.resumed_since(Controls(deployments=frozenset({"mini"}))) == [(None, None)]


def test_the_end_of_a_pause_makes_due_what_it_put_off_and_nothing_else(here: Installation) -> None:
    first, second, waiting = (here.submit([new_task()]) for _ in range(3))
    large = here.submit([new_task(tier="large")])
    for batch in (first, second, large):
        put_off(here, batch)
    put_off(here, waiting, tasks_too=True)
    assert rung(here) == set()
    here.store.write(partial(controls.pause, scope=controls.batch_scope(first)))
    here.store.write(partial(controls.resume, scope=controls.batch_scope(first)))
    assert rung(here) == {first}
    here.store.write(partial(controls.release, tier="small"))
    # A message whose tasks are not due would be taken to carry nothing: they wait for their own time.
    assert rung(here) == {first, second}
    here.store.write(controls.release)
    assert rung(here) == {first, second, large}


def test_what_is_paused_is_not_ready(here: Installation) -> None:
    paused, other = here.submit([new_task(), new_task()]), here.submit([new_task()])
    here.submit([new_task(tier="large")])
    now_set = Controls(batches=frozenset({paused}), tiers=frozenset({"large"}))
    found = here.read(lambda connection: backlog.backlog(connection, now_set))
    assert (found["small"].ready, found["small"].waiting, found["small"].is_paused) == (1, 2, False)
    assert (found["large"].ready, found["large"].waiting, found["large"].is_paused) == (0, 1, True)
    assert here.read(lambda connection: backlog.ready_tasks(connection, "small", now_set)) == 1
    assert here.read(lambda connection: backlog.ready_tasks(connection, "small")) == 3
    assert other


def test_limits_are_set_for_what_shares_them(here: Installation) -> None:
    shared = Deployment(name="mini", provider="openai", model="m", limit="account")
    alone = Deployment(name="pro", provider="openai", model="m")
    assert (controls.limit_scope(shared), controls.limit_scope(alone)) == ("limit:account", "deployment:pro")
    here.store.write(partial(controls.limit, scope="limit:account", rpm=300, tpm=None))
    here.store.write(partial(controls.pause, scope="deployment:pro"))
    here.store.write(partial(controls.limit, scope="deployment:pro", rpm=None, tpm=9_000))
    found = here.read(controls.read)
    assert found.limits == {"limit:account": Override(300, None), "deployment:pro": Override(None, 9_000)}
    here.store.write(partial(controls.limit, scope="limit:account", rpm=None, tpm=None))
    found = here.read(controls.read)
    assert (set(found.limits), found.deployments) == ({"deployment:pro"}, {"pro"})


def test_another_priority_rings_what_is_queued_and_reaches_the_tasks(here: Installation) -> None:
    batch, other = here.submit([new_task() for _ in range(250)]), here.submit([new_task()])
    here.set(chunks, chunks.c.batch_id.in_([batch, other]), published_at=now(-1))
    received = here.rows(chunks, chunks.c.batch_id == batch)[0].id
    here.set(chunks, chunks.c.id == received, received_at=now())
    assert here.store.write(partial(controls.prioritise, batch_id=batch, priority=8)) == 2
    while here.store.write(partial(controls.prioritise_tasks, batch_id=batch, priority=8)):
        pass
    assert {row.priority for row in here.rows(chunks, chunks.c.batch_id == batch)} == {8}
    assert {row.priority for row in here.rows(tasks, tasks.c.batch_id == batch)} == {8}
    assert {row.priority for row in here.rows(tasks, tasks.c.batch_id == other)} == {5}
    assert here.read(controls.read).priorities == {batch: 8}
    ringing = here.read(sweeps.chunks_to_ring)
    assert [chunk.priority for chunk in ringing] == [8, 8]
    assert received not in {chunk.id for chunk in ringing}


def test_what_was_set_for_ended_batches_is_forgotten(here: Installation) -> None:
    ended, running = here.submit([new_task()]), here.submit([new_task()])
    for batch in (ended, running):
        here.store.write(partial(controls.pause, scope=controls.batch_scope(batch)))
    here.store.write(partial(controls.pause, scope="tier:small"))
    here.store.write(partial(controls.resume, scope="tier:small"))
    here.set(batches, batches.c.id == ended, finished_at=now())
    assert here.store.write(controls.forget_ended) == 2
    assert here.read(controls.read).batches == {running}


def test_nothing_is_set_on_the_tables_of_the_release_before(here: Installation) -> None:
    here.store.write(partial(controls.pause, scope="tier:small"))
    assert controls.current(here.store).tiers == {"small"}
    call_tables(here, "0005")
    assert controls.current(here.store) == NOTHING_SET
    call_tables(here, schema.HEAD)
    assert controls.current(here.store).tiers == {"small"}


def call_tables(here: Installation, version: str) -> None:
    said = text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{version}'")
    here.store.write(lambda connection: connection.execute(said))
    schema.check(here.store)


def test_actions_say_who_did_what(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    here.store.write(lambda connection: actions.record(connection, "pause", "tier:small"))
    monkeypatch.setenv("TIERQ_ACTOR", "pipeline 7")
    here.store.write(lambda connection: actions.record(connection, "limit", "deployment:mini", {"rpm": 300}))
    latest, first = here.read(lambda connection: list(actions.recent(connection, 10)))
    assert (latest.actor, latest.action, latest.target, latest.details) == (
        "pipeline 7",
        "limit",
        "deployment:mini",
        {"rpm": 300},
    )
    assert "@" in first.actor
    assert first.details == {}
    assert here.read(lambda connection: connection.execute(select(now())).scalar_one()) >= latest.at >= first.at


def test_what_was_put_off_before_it_was_noted_as_published_is_not_lost(here: Installation) -> None:
    batch = here.submit([new_task()])
    put_off(here, batch)
    (chunk,) = here.rows(chunks, chunks.c.batch_id == batch)
    here.store.write(partial(submission.mark_published, chunk_ids=[chunk.id]))
    here.store.write(controls.release)
    assert rung(here) == {batch}
