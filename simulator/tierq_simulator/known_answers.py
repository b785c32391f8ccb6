"""Answers to inputs whose right answer is known: the right one, or it with one mistake in it."""

from __future__ import annotations

from typing import Any

from tierq_simulator.chance import Dice
from tierq_simulator.passages import UNANSWERED
from tierq_simulator.schema_rules import Schema, fits, options

_GROUNDED = frozenset({"answer", "citations", "answerable"})


def in_form(known: Any, schema: Schema) -> dict[str, Any] | None:
    """The right answer as the schema asks for it; None where it does not fit, and simple rules have to do."""
    properties: dict[str, Any] = schema.get("properties") or {}
    if not (isinstance(known, dict) and known.keys() <= properties.keys()):
        known = {next(iter(properties)): known} if len(properties) == 1 else None
    if known is None or known.keys() != properties.keys():
        return None
    if properties.keys() == _GROUNDED and known["answer"] is None:
        known = {**known, "answer": UNANSWERED}
    return known if all(_fits(known[name], part) for name, part in properties.items()) else None


def mistaken(right: dict[str, Any], guessed: dict[str, Any], victim: str, schema: Schema, dice: Dice) -> dict[str, Any]:
    """The right answer with one property wrong, for which rules have guessed a wrong one of their own."""
    if victim in _GROUNDED and right.keys() == _GROUNDED:
        if guessed["citations"] != right["citations"]:
            return guessed
        return {"answer": UNANSWERED, "citations": [], "answerable": False}
    value = guessed.get(victim)
    if value == right[victim]:
        value = _other(value, schema["properties"][victim], dice)
    return {**right, victim: value}


def _fits(value: Any, part: Any) -> bool:
    if not isinstance(part, dict) or isinstance(value, dict) or any(isinstance(one, dict) for one in _items(value)):
        return True
    return fits(value, part)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _other(value: Any, part: Schema, dice: Dice) -> Any:
    """Another value than this one."""
    others = [one for one in options(part) or [] if one != value]
    if others:
        return dice.choice(others)
    if isinstance(value, list):
        return value[:-1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 10 + 1
    return f"{value} (?)"
