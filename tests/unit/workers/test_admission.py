"""Slots go to the higher priority first, then to the older chunk."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tierq_shared.queues import Chunk
from tierq_shared.store.claims import Claims
from tierq_workers.admission import LOOK_AGAIN_S, Admission, Entry
from tierq_workers.chain import Room


class Wakes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class Clock:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def admission(slots: int) -> tuple[Admission, Wakes]:
    wakes = Wakes()
    return Admission(slots, wakes), wakes


def enter(place: Admission, name: str, count: int, priority: int = 5) -> Entry:
    return place.enter(Chunk(name, "b", "small", priority, [f"{name}{number}" for number in range(count)]))


def taken(ids: list[str], left: list[str] | None = None) -> Claims:
    """What a claim came to; admission only counts the taken ones."""
    some: Any = [(id_, None) for id_ in ids]
    return Claims(some, left or [])


async def test_higher_priority_first_then_age() -> None:
    place, _ = admission(3)
    for name, priority in (("a", 1), ("b", 5), ("c", 9), ("d", 5)):
        enter(place, name, 1, priority)
    assert place.draw().ids == ["c0", "b0", "d0"]
    place.release(3)
    assert place.draw().ids == ["a0"]


async def test_an_urgent_chunk_passes_one_that_is_half_drawn() -> None:
    place, _ = admission(2)
    enter(place, "long", 5, 1)
    place.settle(place.draw(), taken(["long0", "long1"]))
    enter(place, "urgent", 1, 9)
    place.release(2)
    assert place.draw().ids == ["urgent0", "long2"]


async def test_never_more_ids_than_slots() -> None:
    place, _ = admission(2)
    enter(place, "a", 5)
    assert (place.draw().ids, place.in_use, place.draw().ids) == (["a0", "a1"], 2, [])


async def test_an_entry_is_done_when_no_id_of_it_needs_a_claim() -> None:
    place, _ = admission(2)
    entry = enter(place, "a", 3)
    draw = place.draw()
    assert not entry.settled.is_set()
    place.settle(draw, taken(["a0", "a1"]))
    assert entry.settled.is_set()
    assert not entry.done.done()
    place.release()
    place.settle(place.draw(), taken(["a2"]))
    assert entry.done.done()
    assert entry.unclaimed == []


async def test_ids_that_need_no_run_free_their_slots_and_those_that_cannot_run_are_left() -> None:
    place, wakes = admission(3)
    entry = enter(place, "a", 3)
    draw = place.draw()
    before = wakes.count
    place.settle(draw, taken(["a0"], left=["a2"]))
    assert place.in_use == 1
    assert wakes.count > before or not entry.waiting
    assert entry.unclaimed == ["a2"]
    assert not entry.done.done(), "what was left is looked at again"


async def test_a_closing_entry_is_not_drawn_from() -> None:
    place, _ = admission(3)
    first, _second = enter(place, "a", 1), enter(place, "b", 1)
    first.closing = True
    assert place.draw().ids == ["b0"]


@pytest.mark.parametrize("spare_slots", [0, 5])
@pytest.mark.parametrize("entries", [1, 2, 3])
async def test_an_undone_draw_waits_again_first_in_line(entries: int, spare_slots: int) -> None:
    place, wakes = admission(2 * entries + spare_slots)
    names = "abc"[:entries]
    drawn = [enter(place, name, 2) for name in names]
    draw = place.draw()
    before = wakes.count
    place.undo(draw)
    assert place.in_use == 0
    assert wakes.count > before, "free slots and waiting ids must be looked at again"
    assert all(entry.settled.is_set() for entry in drawn)
    enter(place, "z", 1)
    assert place.draw().ids[: 2 * entries] == [f"{name}{number}" for name in names for number in (0, 1)]


async def test_ids_that_were_left_are_looked_at_again_behind_the_others() -> None:
    clock = Clock()
    place = Admission(3, Wakes(), clock=clock)
    enter(place, "a", 5)
    place.settle(place.draw(), taken(["a0"], left=["a1", "a2"]))
    draw = place.draw()
    assert draw.ids == ["a3", "a4"]
    place.settle(draw, taken(["a3", "a4"]))
    clock.at += LOOK_AGAIN_S
    place.release()
    assert place.draw().ids == ["a1"]


async def test_some_slots_are_kept_back_for_urgent_tasks() -> None:
    place, _ = admission(200)
    enter(place, "batch", 300, 5)
    draw = place.draw()
    assert len(draw.ids) == 198
    place.settle(draw, taken(draw.ids))
    enter(place, "urgent", 5, 9)
    assert place.draw().ids == ["urgent0", "urgent1"]


async def test_no_more_ids_than_permits() -> None:
    place = Admission(100, Wakes(), lambda: Room(2, 2), Clock())
    enter(place, "batch", 50, 5)
    enter(place, "more", 50, 5)
    assert place.draw().ids == ["batch0", "batch1"]


async def test_urgent_tasks_may_take_any_deployment_and_one_other_is_looked_at_now_and_then() -> None:
    clock = Clock()
    place = Admission(100, Wakes(), lambda: Room(0, 5), clock)
    enter(place, "batch", 50, 5)
    enter(place, "urgent", 3, 9)
    draw = place.draw()
    assert draw.ids == ["urgent0", "urgent1", "urgent2", "batch0"]
    place.settle(draw, taken(["urgent0", "urgent1", "urgent2"], left=["batch0"]))
    assert place.draw().ids == []
    clock.at += LOOK_AGAIN_S
    assert place.draw().ids == ["batch1"]


async def test_without_permits_nothing_is_claimed() -> None:
    place = Admission(100, Wakes(), lambda: Room(0, 0), Clock())
    enter(place, "urgent", 3, 9)
    assert place.draw().ids == []


async def test_an_undone_draw_keeps_the_order_of_a_half_drawn_chunk() -> None:
    place, _ = admission(2)
    enter(place, "a", 4)
    place.undo(place.draw())
    first = place.draw()
    assert first.ids == ["a0", "a1"]
    place.settle(first, taken(["a0", "a1"]))
    place.release(2)
    assert place.draw().ids == ["a2", "a3"]
    assert place.draw().ids == []


async def test_a_freed_slot_wakes_only_where_something_waits() -> None:
    place, wakes = admission(1)
    place.settle(place.draw(), taken([]))
    assert wakes.count == 0
    enter(place, "a", 2)
    place.settle(place.draw(), taken(["a0"]))
    before = wakes.count
    place.release()
    assert wakes.count == before + 1


async def test_new_entries_are_those_whose_receipt_is_not_stored() -> None:
    place, _ = admission(1)
    first, second = enter(place, "a", 1), enter(place, "b", 1)
    first.is_new = False
    assert list(place.new_entries()) == [second]
    place.leave(second)
    assert list(place.new_entries()) == []
    await asyncio.sleep(0)
