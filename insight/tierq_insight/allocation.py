"""One option for each row, so that the whole is worth as much as it can be within a limit of cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")
What = TypeVar("What")

_STEPS = 60
"""Halvings of the price of worth: more than a float's digits."""


@dataclass(frozen=True, slots=True)
class Option(Generic[What]):
    """What a row may be given."""

    what: What
    worth: float
    cost: float


def allocate(options: Mapping[Row, Sequence[Option[What]]], limit: float) -> dict[Row, Option[What]]:
    """Chooses by one price of worth for all rows, the least at which the whole keeps to the limit (Everett 1963).

    What is left of the limit then buys the upgrades that are worth most for their cost. Where even the cheapest
    options cost more than the limit, they are what comes back.
    """
    low, high = 0.0, 1.0
    while _cost(_at(options, high)) > limit and high < 1e30:
        high *= 16
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _cost(_at(options, middle)) > limit else (low, middle)
    chosen = _at(options, high)
    while best := max(_upgrades(options, chosen, limit - _cost(chosen)), key=lambda one: one[0], default=None):
        _, row, option = best
        chosen[row] = option
    return chosen


def _at(options: Mapping[Row, Sequence[Option[What]]], price: float) -> dict[Row, Option[What]]:
    return {
        row: max(list_, key=lambda one: (one.worth - price * one.cost, -one.cost)) for row, list_ in options.items()
    }


def _upgrades(
    options: Mapping[Row, Sequence[Option[What]]], chosen: Mapping[Row, Option[What]], left: float
) -> Iterator[tuple[float, Row, Option[What]]]:
    """The options that are worth more than the chosen ones and can be paid, with what they are worth for their cost."""
    for row, list_ in options.items():
        for option in list_:
            gain, price = option.worth - chosen[row].worth, option.cost - chosen[row].cost
            if gain > 0 and price <= left:
                yield gain / price if price > 0 else float("inf"), row, option


def _cost(chosen: Mapping[Row, Option[What]]) -> float:
    return sum(option.cost for option in chosen.values())
