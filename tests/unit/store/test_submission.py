"""Batches: each task once, however often, by however many, and in whatever pieces it is submitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tierq import Classify, submitting
from tierq.outputs import Decoder
from tierq.submitting import BatchOptions, Submitter
from tierq_shared.errors import BatchAborted, InvalidTask, KeyConflict, TierQError
from tierq_shared.settings import Settings
from tierq_shared.store import submission
from tierq_shared.store.clock import now
from tierq_shared.store.tables import batches, chunks, decisions, payloads, specs, tasks
from unit.store.installation import SPEC, Installation, new_batch, new_task

TRIAGE = Classify.spec("triage", ["bug", "billing"])


class Broker:
    def __init__(self) -> None:
        self.published: list[str] = []

    def publish(self, some: Iterable[Any]) -> None:
        self.published += [id_ for chunk in some for id_ in chunk.task_ids]


def submitter(here: Installation, broker: Broker | None = None) -> Submitter:
    return Submitter(Settings(), here.store, broker or Broker())  # type: ignore[arg-type]


def submit(here: Installation, some: Iterable[Any], key: str | None = None, broker: Broker | None = None) -> str:
    return submitter(here, broker).submit(some, BatchOptions(key=key), Decoder())


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "SLICE", 3)


# Slices.


def test_a_slice_writes_tasks_payloads_decisions_spec_and_chunks(here: Installation) -> None:
    batch = here.submit([new_task("a", "one"), new_task(None, "two", tier="large", priority=9)])
    first, second = (here.task(id_) for id_ in here.ids(batch))
    assert (first.key, first.position, first.state, first.epoch, first.cost_nusd) == ("a", 0, "queued", 0, 0)
    assert (second.key, second.position, second.tier, second.priority) == (None, 1, "large", 9)
    assert here.one(payloads, payloads.c.task_id == first.id).input == '{"text":"one"}'
    assert here.one(decisions, decisions.c.task_id == second.id).tier == "large"
    assert here.one(specs).id == SPEC.id
    assert {(row.id, row.tier, row.priority, row.size) for row in here.chunks(batch)} == {
        (first.chunk_id, "small", 5, 1),
        (second.chunk_id, "large", 9, 1),
    }
    assert here.one(batches).total == 2


def test_chunks_hold_a_hundred_tasks_of_one_tier_and_priority_at_most(here: Installation) -> None:
    batch = here.submit([new_task(tier="small" if number % 2 else "large") for number in range(250)])
    assert sorted((row.tier, row.size) for row in here.chunks(batch)) == [
        ("large", 25),
        ("large", 100),
        ("small", 25),
        ("small", 100),
    ]
    with here.store.reading() as connection:
        found = submission.unpublished(connection, batch, 10)
    assert sorted(id_ for chunk in found for id_ in chunk.task_ids) == sorted(here.ids(batch))


def test_a_key_that_comes_again_with_its_payload_is_the_same_task(here: Installation) -> None:
    batch = here.open()
    first = here.add(batch, [new_task("a"), new_task("b"), new_task("a")])
    again = here.add(batch, [new_task("b"), new_task("c")], first=3)
    assert (first.added, again.added) == (2, 1)
    assert first.task_ids[0] == first.task_ids[2]
    assert again.task_ids[0] == first.task_ids[1]
    assert here.seal(batch) == 3
    assert [here.task(id_).position for id_ in here.ids(batch)] == [0, 1, 2]


def test_a_key_with_another_payload_is_a_conflict_that_names_task_and_key(here: Installation) -> None:
    batch = here.open()
    here.add(batch, [new_task("a")])
    with pytest.raises(KeyConflict, match=r"task 7: key 'a'"):
        here.add(batch, [new_task("a", "other")], first=7)
    with pytest.raises(KeyConflict, match=r"task 1: key 'b'"):
        here.add(batch, [new_task("b", "one"), new_task("b", "other")])
    assert len(here.ids(batch)) == 1


def test_the_same_key_in_two_batches_is_two_tasks(here: Installation) -> None:
    first, second = here.submit([new_task("a")]), here.submit([new_task("a", "other")])
    assert here.ids(first) != here.ids(second)


def test_a_batch_key_is_taken_once(here: Installation) -> None:
    one, other = new_batch("b"), new_batch("b")
    assert here.store.write(lambda c: submission.insert_batch(c, one, total=None))
    assert not here.store.write(lambda c: submission.insert_batch(c, other, total=None))
    assert here.read(submission.find_by_key, "b").id == one.id


def test_an_empty_batch_is_finished_as_it_is_sealed(here: Installation) -> None:
    whole, batch = submit(here, []), here.open()
    assert here.seal(batch) == 0
    for id_ in (whole, batch):
        progress = here.progress(id_)
        assert (progress.state, progress.total) == ("finished", 0)
        assert progress.finished_at is not None


def test_sealing_twice_keeps_the_first_total(here: Installation) -> None:
    batch = here.open()
    here.add(batch, [new_task()])
    assert (here.seal(batch), here.seal(batch)) == (1, 1)
    assert here.progress(batch).state == "running"


def test_a_given_up_batch_frees_its_key_and_runs_nothing(here: Installation) -> None:
    batch = here.open("b")
    here.add(batch, [new_task()])
    here.abort(batch)
    assert here.progress(batch).state == "aborted"
    assert here.read(submission.find_by_key, "b") is None
    assert here.claim(here.worker(), here.ids(batch)).taken == []
    sealed = here.submit([new_task()])
    here.abort(sealed)
    assert here.progress(sealed).state == "running"


def test_a_silent_producers_open_batch_reads_interrupted(here: Installation) -> None:
    batch = here.open("b")
    assert here.progress(batch).state == "open"
    here.set(batches, producer_seen_at=now(-61))
    assert here.progress(batch).state == "interrupted"
    here.add(batch, [new_task("a")], fresh=False)
    assert here.progress(batch).state == "open"


# The submitter.


def test_an_interrupted_batch_is_resumed_by_its_key(here: Installation, small_slices: None) -> None:
    broker, some = Broker(), [TRIAGE(f"text {number}", key=number if number % 2 else None) for number in range(10)]

    class Killed(BaseException):
        pass

    def dying() -> Iterator[Any]:
        yield from some[:7]
        raise Killed

    one = submitter(here, broker)
    one._store = _without_abort(here)  # a killed process gives nothing up
    with pytest.raises(Killed):
        one.submit(dying(), BatchOptions(key="b"), Decoder())
    assert here.count(tasks) == 6
    assert broker.published == []
    batch = submit(here, some, "b", broker)
    assert here.count(batches) == 1
    assert len(here.ids(batch)) == 10
    assert sorted(broker.published) == sorted(here.ids(batch))
    assert here.progress(batch).total == 10


def _without_abort(here: Installation) -> Any:
    class Store:
        def write(self, work: Any) -> Any:
            return None if "abort" in work.__code__.co_names else here.store.write(work)

        reading = here.store.reading

    return Store()


def test_submitting_the_same_batch_again_adds_nothing(here: Installation, small_slices: None) -> None:
    some = [TRIAGE(f"text {number}") for number in range(7)]
    first, again = submit(here, some, "b"), submit(here, some, "b")
    assert first == again
    assert here.count(tasks) == 7


def test_a_batch_with_repeated_keys_before_other_tasks_can_be_submitted_again(here: Installation) -> None:
    """Its tasks without a key are known by their place in what is submitted."""
    some = [TRIAGE("a", key="a"), TRIAGE("a", key="a"), TRIAGE("plain one"), TRIAGE("plain two")]
    first = submit(here, some, "b")
    assert submit(here, some, "b") == first
    assert here.count(tasks) == 3


def test_a_sealed_batch_takes_no_further_tasks(here: Installation) -> None:
    some = [TRIAGE(f"text {number}") for number in range(3)]
    submit(here, some[:2], "b")
    with pytest.raises(KeyConflict, match="sealed with 2 tasks"):
        submit(here, some, "b")
    assert here.count(tasks) == 2


@pytest.mark.parametrize("position", [0, 2, 5])
def test_an_invalid_task_gives_the_whole_batch_up_and_names_its_place(
    here: Installation, small_slices: None, position: int
) -> None:
    some: list[Any] = [TRIAGE(f"text {number}") for number in range(7)]
    some[position] = TRIAGE("text", tier="huge")
    broker = Broker()
    with pytest.raises(InvalidTask) as caught:
        submit(here, some, "b", broker)
    assert (caught.value.position, caught.value.field) == (position, "tier")
    assert broker.published == []
    assert {row.state for row in here.rows(batches)} <= {"aborted"}
    assert here.count(tasks, tasks.c.state != "queued") == 0
    good = submit(here, [TRIAGE("text")], "b")
    assert here.progress(good).state == "running"


def test_streaming_publishes_before_the_seal(here: Installation, small_slices: None) -> None:
    broker = Broker()
    seen: list[int] = []

    def some() -> Iterator[Any]:
        for number in range(9):
            seen.append(len(broker.published))
            yield TRIAGE(f"text {number}")

    submitter(here, broker).submit(some(), BatchOptions(streaming=True), Decoder())
    assert seen[-1] >= 3
    assert len(broker.published) == 9
    assert here.count(chunks, chunks.c.published_at.is_(None)) == 0


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("count", [4, 2_000])
def test_concurrent_submitters_of_one_batch_key_end_with_each_task_once(
    here: Installation, keyed: bool, count: int
) -> None:
    some = [TRIAGE(f"text {number}", key=f"key-{number}" if keyed else None) for number in range(count)]
    barrier, broker = Barrier(3), Broker()

    def go() -> str:
        barrier.wait(10)
        return submit(here, some, "b", broker)

    with ThreadPoolExecutor(3) as pool:
        found = {future.result(60) for future in [pool.submit(go) for _ in range(3)]}
    assert len(found) == 1
    (batch,) = found
    progress = here.progress(batch)
    assert (progress.state, progress.total) == ("running", count)
    assert here.count(tasks) == count
    assert set(broker.published) == set(here.ids(batch))


@pytest.mark.parametrize("keyed", [True, False])
def test_a_submitter_that_is_overtaken_by_another_of_the_same_batch_goes_on(
    here: Installation, small_slices: None, keyed: bool
) -> None:
    tasks_ = [TRIAGE(f"text {number}", key=f"key-{number}" if keyed else None) for number in range(12)]

    def slow() -> Iterator[Any]:
        for number, task in enumerate(tasks_):
            if number == 8:
                submit(here, tasks_, "b")
            yield task

    batch = submit(here, slow(), "b")
    assert here.progress(batch).state == "running"
    assert (here.count(tasks), here.count(batches)) == (12, 1)


def test_concurrent_slices_of_the_same_keys_add_each_key_once(here: Installation) -> None:
    batch, barrier = here.open("b"), Barrier(4)

    def go(offset: int) -> None:
        some = [new_task(f"key-{(number + offset) % 50}") for number in range(50)]
        barrier.wait(10)
        for _ in range(8):
            try:
                here.add(batch, some, fresh=False)
            except IntegrityError:
                continue
            return
        raise AssertionError("never through")

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(go, offset) for offset in (0, 7, 13, 25)]:
            future.result(60)
    assert sorted(here.task(id_).key for id_ in here.ids(batch)) == sorted(f"key-{number}" for number in range(50))


def test_whoever_resumes_a_batch_that_is_given_up_meanwhile_is_told(here: Installation, small_slices: None) -> None:
    """Its tasks will never run: that must not read as a success."""
    batch = here.open("b")

    def some() -> Iterator[Any]:
        for number in range(9):
            if number == 7:
                here.abort(batch)
            yield TRIAGE(f"text {number}")

    with pytest.raises(TierQError) as caught:
        submit(here, some(), "b")
    assert isinstance(caught.value, BatchAborted)
