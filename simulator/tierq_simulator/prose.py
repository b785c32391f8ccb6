"""Short texts made of the input's own words."""

from __future__ import annotations

from collections import Counter

from tierq_simulator.chance import Dice
from tierq_simulator.reading import STOP_WORDS, sentences, words

_WORD_MINIMUM = 4


def topics(text: str, most: int) -> list[str]:
    """The words that matter most: frequent and long, in order."""
    counts = Counter(word for word in words(text) if len(word) >= _WORD_MINIMUM and word not in STOP_WORDS)
    ranked = sorted(counts, key=lambda word: (-counts[word], -len(word), word))
    return [word for word in ranked if not word.isdigit()][:most]


def listing(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def summary(text: str, most: int = 200) -> str:
    """The first sentence that says something."""
    found = sentences(text)
    best = next((sentence for sentence in found if len(sentence.split()) >= _WORD_MINIMUM), found[0] if found else "")
    return best if len(best) <= most else best[: most - 1].rstrip() + "…"


def reply(text: str, dice: Dice) -> str:
    """A short text about the input."""
    spoken = topics(text, 4)
    if not spoken:
        return "There is nothing to say about an empty input."
    opening = dice.choice(("In short, this is about", "The text concerns", "This deals with", "The main subject is"))
    closing = dice.choice(("It comes down to this:", "What it says first:", "In its own words:"))
    return f"{opening} {listing(spoken)}. {closing} {summary(text)}"
