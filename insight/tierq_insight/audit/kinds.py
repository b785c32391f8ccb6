"""What the answers of one kind of request have in common: a few short ones that come again and again are labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from tierq_insight.audit.call import Call
from tierq_insight.audit.wording import label_of

MAX_KINDS = 1_000
MAX_LABELS = 200
"""Bounds of the memory: instructions that differ with every call would each be a kind."""
MIN_CALLS = 20
MIN_REPEATS = 5
"""Calls there must be for each different answer on average."""


@dataclass(slots=True)
class _Answers:
    calls: int = 0
    labels: set[str] | None = field(default_factory=set)
    """None once an answer was no label, or there were too many."""


class Kinds:
    """What answers have in common, learned in a pass of its own over all calls, when it is first asked for.

    ``calls`` gives all calls anew each time it is called.
    """

    def __init__(self, calls: Callable[[], Iterable[Call]]) -> None:
        self._calls = calls
        self._answers: dict[Hashable, _Answers] | None = None

    def labels(self, call: Call) -> int:
        """How many labels the answers to calls of this kind are; 0 where they are none, or its own was not logged."""
        if call.output is None:
            return 0
        if self._answers is None:
            self._answers = _learned(self._calls())
        seen = self._answers.get(_kind(call))
        if seen is None or seen.labels is None or seen.calls < MIN_CALLS:
            return 0
        count = len(seen.labels)
        return count if count >= 2 and count * MIN_REPEATS <= seen.calls else 0


def _learned(calls: Iterable[Call]) -> dict[Hashable, _Answers]:
    found: dict[Hashable, _Answers] = {}
    for call in calls:
        kind = _kind(call)
        if call.output is not None and (kind in found or len(found) < MAX_KINDS):
            _note(found.setdefault(kind, _Answers()), call.output)
    return found


def _note(seen: _Answers, output: str) -> None:
    seen.calls += 1
    if seen.labels is None:
        return
    label = label_of(output)
    if label is None or len(seen.labels) > MAX_LABELS:
        seen.labels = None
    else:
        seen.labels.add(label)


def _kind(call: Call) -> Hashable:
    # The hash instead of the text: instructions may be long, and there are many calls.
    return hash(call.instructions), call.name, call.is_prompt
