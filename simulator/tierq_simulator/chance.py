"""Seeded draws: the same seed and input always give the same numbers, in every process."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


def digest(seed: int, *parts: str | int) -> int:
    """A 64-bit number that depends on the seed and on every part."""
    joined = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def fraction(seed: int, *parts: str | int) -> float:
    """A number in [0, 1) that depends on the seed and on every part."""
    return (digest(seed, *parts) >> 11) / (1 << 53)


class Dice:
    """A repeatable sequence of draws (splitmix64), cheap to make one per request."""

    __slots__ = ("_state",)

    def __init__(self, state: int) -> None:
        self._state = state & _MASK

    def number(self) -> int:
        """The next 64-bit number."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def fraction(self) -> float:
        """The next number in [0, 1)."""
        return (self.number() >> 11) / (1 << 53)

    def below(self, limit: int) -> int:
        """The next integer in [0, limit)."""
        return self.number() % limit

    def choice(self, options: Sequence[T]) -> T:
        """The next pick from the options."""
        return options[self.number() % len(options)]
