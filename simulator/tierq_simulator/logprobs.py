"""The tokens of an answer with their log-probabilities, from how sure the simulated model is of it.

The whole doubt lies on the first token of the value that is most likely to be wrong: a label's, or a field's. Of an
answer without schema it lies on every word.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from tierq_simulator.chance import fraction
from tierq_simulator.schema_rules import Schema, options

_PIECE = re.compile(r" ?[^\W\d_]{1,6}|\d{1,3}|\W|_", re.DOTALL)
"""Pieces about as long as a tokenizer's. Together they are the text, character for character."""

_NEARLY_CERTAIN = -1e-4
_HALVING = 0.5
_FILLERS = (" the", "\n", " a", " of")


@dataclass(frozen=True, slots=True)
class Token:
    """One token, and the likeliest tokens in its place, itself among them."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


def tokens(text: str, schema: Schema | None, doubtful: str | None, sure: float, seed: int) -> list[Token]:
    """The answer's tokens. ``doubtful`` names the property whose value carries the doubt."""
    pieces = [found[0] for found in _PIECE.finditer(text)]
    if schema is None:
        return [_prose_token(piece, sure, seed, number) for number, piece in enumerate(pieces)]
    doubted = _first_of_value(text, pieces, doubtful)
    return [
        _doubted(piece, sure, _alternatives(schema, doubtful, text)) if number == doubted else _certain(piece)
        for number, piece in enumerate(pieces)
    ]


def _first_of_value(text: str, pieces: list[str], name: str | None) -> int:
    """The number of the piece in which the property's value begins, behind its opening quote."""
    found = re.search(rf'"{re.escape(name)}"\s*:[\s"\[{{]*', text) if name else None
    start, offset = (found.end() if found else len(text)), 0
    for number, piece in enumerate(pieces):
        offset += len(piece)
        if offset > start:
            return number
    return len(pieces) - 1


def _alternatives(schema: Schema, name: str | None, text: str) -> list[str]:
    """What else could stand in the value's place: how the other labels begin, where there are labels."""
    part: Any = (schema.get("properties") or {}).get(name) or {}
    labels = options(part) or options(part.get("items") or {}) or []
    starts = [_PIECE.match(label) for label in labels if isinstance(label, str) and f'"{label}"' not in text]
    return [found[0] for found in starts if found] or list(_FILLERS)


def _certain(piece: str) -> Token:
    return Token(piece, _NEARLY_CERTAIN, ((piece, _NEARLY_CERTAIN),))


def _doubted(piece: str, sure: float, others: list[str]) -> Token:
    """A token of this probability; what is left of it goes to the others, to each half of what the one before got."""
    own, left = math.log(sure), 1.0 - sure
    top = [(piece, own)]
    for other in dict.fromkeys(others):
        left *= _HALVING
        if other != piece and left > 0:
            top.append((other, math.log(left)))
    return Token(piece, own, tuple(sorted(top, key=lambda one: -one[1])))


def _prose_token(piece: str, sure: float, seed: int, number: int) -> Token:
    # A mean of the logarithms that is that of ``sure``, with some words surer than others.
    own = math.log(sure) * 2 * fraction(seed, "word", piece, number)
    return Token(piece, own, ((piece, own),))
