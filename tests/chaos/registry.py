"""What a scenario is, and the list of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.ground import Ground

STORES = ("sqlite", "postgresql")
BROKERS = ("redis", "rabbitmq")


@dataclass(frozen=True, slots=True)
class Shape:
    """Over which store and broker a scenario runs."""

    store: str
    broker: str

    def __str__(self) -> str:
        return f"{self.store} + {self.broker}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault, done on purpose while a batch runs. ``play`` does it; the reckoning is taken afterwards."""

    name: str
    about: str
    play: Callable[[Ground], None]
    tasks: int
    quick_tasks: int
    stores: tuple[str, ...] = STORES
    brokers: tuple[str, ...] = BROKERS
    left_out: str = ""
    """Why it makes no sense over the others."""
    max_in_flight: int = 20
    """Of one worker: few, so that a batch lasts long enough for its faults."""
    lease_s: int = 2
    own_postgres: bool = False
    """Over PostgreSQL it gets a server of its own, which it may break."""

    @property
    def shapes(self) -> list[Shape]:
        return [Shape(store, broker) for store, broker in product(self.stores, self.brokers)]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str, *, tasks: int, quick_tasks: int, **options: object
) -> Callable[[Callable[[Ground], None]], Callable[[Ground], None]]:
    """Enters a function into the list; the first line of its docstring says what it does."""

    def enter(play: Callable[[Ground], None]) -> Callable[[Ground], None]:
        about = (inspect.getdoc(play) or "").partition("\n")[0]
        SCENARIOS[name] = Scenario(name, about, play, tasks, quick_tasks, **options)  # type: ignore[arg-type]
        return play

    return enter
