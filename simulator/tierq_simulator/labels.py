"""Choosing labels by the words that the input shares with a label's name and description."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache

from tierq_simulator.chance import Dice
from tierq_simulator.reading import stem, stems, words

_LINE = re.compile(r"^\s*[-*•]\s*[\"'`*]*(.+?)[\"'`*]*\s*(?::|—|–| - )\s*(.+?)\s*$", re.MULTILINE)
_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _RELATED_WEIGHT = 2.0, 1.0, 0.7
_ALSO_SHARE = 0.45
_ALSO_MOST = 3
_CATCH_ALL = frozenset({"other", "general", "none", "unknown", "neutral", "misc", "miscellaneous", "unclear"})

# What people write when they mean a common label. Each line's words speak for labels named by one of its first three.
_RELATED = (
    "billing payment invoice charge charged refund card paid pay subscription price receipt twice overcharged bank fee",
    "bug technical incident error crash crashes broken fails failing freeze exception blank timeout unresponsive load",
    "account login access password sign locked username credentials verification authentication profile log reset",
    "shipping delivery logistics package parcel tracking courier arrived shipped address late delayed lost carrier",
    "refund return returns money back reimburse reimbursement send exchange",
    "cancellation cancel churn unsubscribe terminate stop end leave close",
    "feature request suggestion wish add support idea would love integration dark export option",
    "sales pricing demo quote plan upgrade enterprise seats discount trial buy purchase",
    "spam phishing scam win free prize money click winner lottery claim cash urgent offer congratulations",
    "urgent critical high asap immediately emergency now outage down production everyone blocked deadline",
    "low minor question whenever curious wondering small typo cosmetic",
    "positive praise satisfied love great excellent amazing happy wonderful perfect fantastic awesome best recommend",
    "negative complaint unhappy terrible awful bad worst disappointed angry hate poor frustrated unacceptable useless",
    "security breach privacy vulnerability hacked leak suspicious fraud unauthorized stolen",
    "legal gdpr compliance contract lawyer terms dpa data deletion",
    "job hr career application resume hiring interview vacation leave",
)


class Labels:
    """A set of labels with the words that speak for each."""

    def __init__(self, names: tuple[str, ...], described: dict[str, str]) -> None:
        self.names = names
        found: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for position, name in enumerate(names):
            for word, weight in _speaking(name, described.get(name, "")).items():
                found[word][position] = weight
        # A word that speaks for many labels tells little about any.
        self._index = {word: [(p, w / len(by)) for p, w in by.items()] for word, by in found.items()}

    def scores(self, present: set[str]) -> list[float]:
        """How much speaks for each label."""
        scores = [0.0] * len(self.names)
        for word in present & self._index.keys():
            for position, weight in self._index[word]:
                scores[position] += weight
        return scores

    def ranked(self, present: set[str], dice: Dice) -> tuple[list[str], float]:
        """The labels from best to worst, and by how much the first leads (0 to 1)."""
        scores = self.scores(present)
        count = len(self.names)
        luck = dice.below(count)
        if max(scores, default=0.0) == 0.0:
            scores = [0.1 if name.lower() in _CATCH_ALL else 0.0 for name in self.names]
        order = sorted(range(count), key=lambda p: (-scores[p], (p + luck) % count))
        total = sum(scores)
        second = scores[order[1]] if count > 1 else 0.0
        lead = (scores[order[0]] - second) / total if total else 0.0
        return [self.names[p] for p in order], lead

    def several(self, present: set[str], dice: Dice) -> list[str]:
        """The labels that are nearly as fitting as the best."""
        scores = dict(zip(self.names, self.scores(present), strict=True))
        ranked, _ = self.ranked(present, dice)
        enough = max(scores[ranked[0]] * _ALSO_SHARE, 0.5)
        return [name for name in ranked[:_ALSO_MOST] if scores[name] >= enough] or ranked[:1]


def _speaking(name: str, description: str) -> dict[str, float]:
    speaking: dict[str, float] = {}
    named = {stem(word) for word in words(name.replace("_", " "))}
    for line in _RELATED:
        related = [stem(word) for word in line.split()]
        if named & set(related[:3]):
            speaking.update(dict.fromkeys(related, _RELATED_WEIGHT))
    speaking.update(dict.fromkeys(stems(description), _DESCRIPTION_WEIGHT))
    speaking.update(dict.fromkeys(named, _NAME_WEIGHT))
    return speaking


@lru_cache(maxsize=512)
def descriptions(system: str) -> dict[str, str]:
    """The labels' descriptions, from lines such as ``- label: description``."""
    return {found[1].strip(): found[2] for found in _LINE.finditer(system)}


@lru_cache(maxsize=512)
def labels_of(names: tuple[str, ...], system: str) -> Labels:
    """The labels with what the system text says of them."""
    return Labels(names, descriptions(system))
