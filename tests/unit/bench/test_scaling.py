"""The controller of `bench.scaling` decides as an autoscaler does, and its count finds what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench import page
from bench.scaling.controller import Rule, Wanted
from bench.scaling.count import Count, count

from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts
from unit.store.installation import SUCCEEDED, Installation, new_task, opened, step

RULE = Rule(per_worker=100, most=4, hold_s=5.0)


@pytest.mark.parametrize(("ready", "workers"), [(0, 1), (100, 1), (101, 2), (350, 4), (9_000, 4)])
def test_the_backlog_decides_between_one_and_the_most(ready: int, workers: int) -> None:
    assert Wanted(RULE).at(0.0, ready) == workers


def test_a_pool_grows_at_once_and_shrinks_when_less_has_been_enough_for_a_while() -> None:
    wanted = Wanted(RULE)
    seen = [wanted.at(seconds, ready) for seconds, ready in [(0, 50), (1, 400), (2, 150), (5, 0), (6.5, 0), (8, 0)]]

    assert seen == [1, 4, 4, 4, 2, 1]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    url = f"sqlite:///{tmp_path}/tierq.db"
    store = Store(url)
    schema.migrate(store)
    store.close()
    with opened(url) as installation:
        yield installation


def test_a_run_without_fault_counts_even(here: Installation) -> None:
    batch = here.submit([new_task(str(number)) for number in range(3)])
    worker = here.worker()
    for id_ in here.ids(batch):
        here.commit(worker, step(here.claim_one(worker, id_), SUCCEEDED))
    served = {attempt.id: 1 for attempt in here.rows(attempts)}

    even = here.read(count, 3, served)
    assert even.is_even
    assert str(even).startswith("3 tasks in, 3 succeeded, lost 0, double 0; 3 calls")
    first = next(iter(served))
    assert here.read(count, 4, served).lost == 1
    assert here.read(count, 3, {**served, first: 2}).double == 1
    assert here.read(count, 3, {**served, "unheard of": 1}).difference == 1
    assert here.read(count, 3, {id_: 1 for id_ in served if id_ != first}) == Count(3, 3, 3, 0, 1)


def test_a_section_is_written_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# Page\n\n<!-- one -->\nold\n<!-- /one -->\n\nThe end.\n")

    page.write_section("one", page.table(("a", "b"), [("1", "2")]), file)

    assert file.read_text() == (
        "# Page\n\n<!-- one -->\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n<!-- /one -->\n\nThe end.\n"
    )
    with pytest.raises(ValueError, match="no section 'two'"):
        page.write_section("two", "", file)
