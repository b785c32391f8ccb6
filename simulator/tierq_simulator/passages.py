"""Answering a question from given passages, by the words they share with it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from tierq_simulator.chance import Dice
from tierq_simulator.reading import passages, question, sentences, stems

_ENOUGH = 0.4
UNANSWERED = "The passages do not say."


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer found, the passages it rests on, and whether there was one. ``share`` is how well it fits."""

    answer: str
    citations: list[str]
    answerable: bool
    share: float


def find_answer(text: str, dice: Dice, *, wrong: bool) -> Finding:
    """The best sentence of the passage that shares most with the question; a wrong one where that is wanted."""
    given = passages(text)
    asked = stems(question(text))
    shares = _shares(given, asked)
    best = max(shares, key=lambda key: shares[key], default="")
    fits = bool(best) and shares[best] >= _ENOUGH
    if wrong:
        return _mistaken(given, best, dice) if fits or given else Finding(UNANSWERED, [], answerable=False, share=0.0)
    if not fits:
        return Finding(UNANSWERED, [], answerable=False, share=shares.get(best, 0.0))
    return Finding(_best_sentence(given[best], asked), [best], answerable=True, share=shares[best])


def _shares(given: dict[str, str], asked: set[str]) -> dict[str, float]:
    """Of what the question asks, the share each passage speaks of; words that are rare among them weigh more."""
    spoken = {key: stems(passage) for key, passage in given.items()}
    spread = Counter(word for found in spoken.values() for word in found)
    weights = {word: 1.0 + math.log((1 + len(given)) / (1 + spread[word])) for word in asked}
    total = sum(weights.values()) or 1.0
    return {key: sum(weights[word] for word in asked & found) / total for key, found in spoken.items()}


def _best_sentence(passage: str, asked: set[str]) -> str:
    return max(sentences(passage) or [passage], key=lambda sentence: len(asked & stems(sentence)))


def _mistaken(given: dict[str, str], best: str, dice: Dice) -> Finding:
    others = [key for key in given if key != best]
    if not others:
        return Finding(UNANSWERED, [], answerable=False, share=0.2)
    key = dice.choice(others)
    return Finding(dice.choice(sentences(given[key]) or [given[key]]), [key], answerable=True, share=0.3)
