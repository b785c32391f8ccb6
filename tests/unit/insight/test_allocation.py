"""The best options within a limit, against trying all of them."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tierq_insight.allocation import Option, allocate

offers = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=3)


def options_of(rows: list[list[tuple[int, int]]]) -> dict[int, list[Option[int]]]:
    return {
        row: [Option(place, worth, cost) for place, (worth, cost) in enumerate(list_)] for row, list_ in enumerate(rows)
    }


@given(st.lists(offers, min_size=1, max_size=4), st.integers(1, 60))
def test_it_keeps_to_the_limit_and_comes_close_to_the_best(rows: list[list[tuple[int, int]]], limit: int) -> None:
    chosen = allocate(options_of(rows), limit)
    assert sorted(chosen) == list(range(len(rows)))
    cheapest = sum(min(cost for _, cost in list_) for list_ in rows)
    cost = sum(one.cost for one in chosen.values())
    if cheapest > limit:
        assert cost == cheapest
        return
    assert cost <= limit
    best = max(
        sum(worth for worth, _ in combination)
        for combination in product(*rows)
        if sum(cost for _, cost in combination) <= limit
    )
    # One price for all rows is out by less than the largest step of a single row.
    largest = max(max(worth for worth, _ in list_) - min(worth for worth, _ in list_) for list_ in rows)
    assert best - largest <= sum(one.worth for one in chosen.values()) <= best


def test_what_is_left_buys_the_upgrade_that_is_worth_most_for_its_cost() -> None:
    rows = [[(0, 1), (10, 11)], [(0, 1), (4, 4)], [(0, 1), (3, 4)]]
    chosen = allocate(options_of(rows), 6)
    assert [chosen[row].what for row in range(3)] == [0, 1, 0]


def test_nothing_to_choose_from() -> None:
    assert allocate({}, 1.0) == {}
