"""How far two answers to the same task agree: what shadowing learns of the lower tier's from the higher one's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from tierq_shared.specs import TaskType

JUDGED: tuple[TaskType, ...] = ("classify", "extract", "answer")
"""The types whose answers can be compared. Two free texts may both be right and share no word."""


def agreement(type_: TaskType, one: str, other: str) -> float:
    """From 0 (they contradict) to 1 (they agree), of two outputs as they are stored.

    Classify: the same label, or the same set of them. Extract: the share of equal fields. Answer: both found an answer
    in the passages, with a citation in common, or neither did.

    Raises:
        ValueError: the type is none of `JUDGED`.
    """
    first, second = orjson.loads(one), orjson.loads(other)
    match type_:
        case "classify":
            return float(_labels(first) == _labels(second))
        case "extract":
            return _equal_fields(dict(_fields(first)), dict(_fields(second)))
        case "answer":
            return float(_same_ground(first, second))
    raise ValueError(f"answers of type {type_} cannot be compared")


def _labels(value: Any) -> frozenset[str]:
    return frozenset(value) if isinstance(value, list) else frozenset([value])


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """What is filled in, by its path; a list is one field. Left out and null say the same: nothing was found."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _fields(below, (*path, name))
    elif value is not None:
        yield path, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _equal_fields(first: dict[tuple[str, ...], bytes], second: dict[tuple[str, ...], bytes]) -> float:
    paths = first.keys() | second.keys()
    return sum(first.get(path) == second.get(path) for path in paths) / len(paths) if paths else 1.0


def _same_ground(first: Any, second: Any) -> bool:
    if first["answerable"] != second["answerable"]:
        return False
    cited, also = set(first["citations"]), set(second["citations"])
    return not first["answerable"] or cited == also or bool(cited & also)
