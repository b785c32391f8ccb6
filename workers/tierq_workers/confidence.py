"""How sure an answer is, from 0 to 1: from its tokens' log-probabilities, or from how far several answers agree.

Pure, and never an exception: what cannot be measured is None.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tierq_shared.specs import SpecBody, TaskType
from tierq_workers.answers import json_part
from tierq_workers.providers.base import Completion, Token

ALTERNATIVES = 5
"""Alternatives to each token of a label that are asked for. OpenAI and Gemini give up to 20, some servers only 5."""

_LEAF = re.compile(rb'"((?:[^"\\]|\\.)*")(\s*:)?|-?\d[-+.\deE]*|true|false|null')
"""A string (its closing quote within, since a longer label goes on there) that is no key, a number or a word."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a value stands in the answer's bytes."""

    start: int
    end: int


def alternatives_for(spec: SpecBody) -> int:
    """How many alternatives to each token its confidence is made of: those to a label, for one label alone."""
    return ALTERNATIVES if spec.type == "classify" and not spec.multi else 0


def of_tokens(spec: SpecBody, answer: Completion) -> float | None:
    """The confidence of a valid answer by its tokens' log-probabilities; None where it cannot be had from them.

    **Classify**: the probability of the label given, among all labels. Its own share is the product of the
    probabilities of the tokens that the label's JSON string is made of, from its first character to its closing
    quote. At each of those tokens every alternative that was given leads elsewhere: the product up to there, times the
    alternative's probability, counts for this label where it can go on to this one only (the same label in other
    tokens), for the others where another label is possible, and for nothing where no label is, or none is begun yet.
    The confidence is this label's part of both together; its own share alone where it is spelled with escapes of the
    model's own. With ``multi`` it is the product over the tokens of all labels' strings.

    **All else** (Extract): of each value that the JSON holds, the geometric mean of its tokens' probabilities; and of
    those, the least. Keys and punctuation, which the schema decides, do not count.
    """
    placed = _placed(answer)
    if placed is None:
        return None
    spans = list(_spans(json_part(answer.text).encode()))
    of_values = _over(placed, spans)
    if not all(of_values) or not of_values:
        return None
    if spec.type != "classify":
        return min(math.exp(_sum(tokens) / len(tokens)) for tokens in of_values)
    if spec.multi:
        return math.exp(_sum({one.start: one for tokens in of_values for one in tokens}.values()))
    return _of_label(of_values[0], spans[0], list(spec.labels or ())) if len(spans) == 1 else None


def of_verdict(says_yes: bool, sureness: float | None) -> float:
    """The probability that a verifier's answer is yes. ``sureness``: of the verdict it gave; all of it where None."""
    given = 1.0 if sureness is None else sureness
    return given if says_yes else 1.0 - given


@dataclass(frozen=True, slots=True)
class Agreed:
    """The answer that the samples agree on best, as JSON, and how far they do."""

    output: str = field(repr=False)
    confidence: float


def of_samples(type_: TaskType, outputs: Sequence[str | None]) -> Agreed | None:
    """The answer that most of these valid ones support; None stands for a call that gave none, and supports nothing.

    An answer's agreement is the mean over its parts of the share of all samples that say the same there. For Classify
    the one part is the label (with ``multi`` their set), for Extract each field of the object is one (canonical JSON;
    a field that is left out is null), for Answer they are `answerable` and the set of citations: its wording is not
    compared. Where several agree equally well, the earliest is kept.
    """
    given = [(output, _parts(type_, orjson.loads(output))) for output in outputs if output is not None]
    if not given:
        return None
    names = sorted({name for _, parts in given for name in parts})
    scored = [
        Agreed(output, _support(parts, names, [one for _, one in given], len(outputs))) for output, parts in given
    ]
    return max(scored, key=lambda one: one.confidence)


Parts = dict[str, bytes]


def _support(mine: Parts, names: Sequence[str], all_: Sequence[Parts], samples: int) -> float:
    if not names:  # all of them are empty objects
        return len(all_) / samples
    same = sum(mine.get(name, b"null") == other.get(name, b"null") for name in names for other in all_)
    return same / (len(names) * samples)


def _parts(type_: TaskType, output: Any) -> Parts:
    if type_ == "answer":
        output = {"answerable": output["answerable"], "citations": sorted(set(output["citations"]))}
    elif type_ == "classify" and isinstance(output, list):
        output = sorted(output)
    fields = output if isinstance(output, dict) else {"": output}
    return {name: orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A token and where it stands in the answer's JSON, in bytes; before its start for what comes earlier."""

    token: Token
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.token.text)

    def overlaps(self, span: _Span) -> bool:
        return self.start < span.end and self.end > span.start


def _placed(answer: Completion) -> list[_Placed] | None:
    """The tokens by their places; None where they are not the answer's: servers add some, and leave some out."""
    if answer.tokens is None:
        return None
    part = json_part(answer.text).encode(errors="replace")
    spelled = b"".join(token.text for token in answer.tokens)
    # The last one: reasoning that stands before it may quote it.
    at = -spelled.rfind(part)
    if at > 0 or not part:
        return None
    placed = []
    for token in answer.tokens:
        placed.append(_Placed(token, at))
        at += len(token.text)
    return placed


def _spans(json: bytes) -> Iterator[_Span]:
    """Where the values that are no objects and no lists stand."""
    for match in _LEAF.finditer(json):
        if match[2] is None:
            yield _Span(match.start() if match[1] is None else match.start(1), match.end())


def _over(placed: Sequence[_Placed], spans: Sequence[_Span]) -> list[list[_Placed]]:
    """For each value the tokens that it is spelled with."""
    starts = [one.start for one in placed]
    found = []
    for span in spans:
        first, end = bisect_right(starts, span.start) - 1, bisect_left(starts, span.end)
        found.append([one for one in placed[max(0, first) : end] if one.overlaps(span)])
    return found


def _sum(tokens: Iterable[_Placed]) -> float:
    return sum(one.token.logprob for one in tokens)


def _of_label(tokens: Sequence[_Placed], span: _Span, labels: Sequence[str]) -> float:
    spelled = [_spelled(label) for label in labels]
    text = b"".join(one.token.text for one in tokens)[span.start - tokens[0].start :][: span.end - span.start]
    if text not in spelled:
        return math.exp(_sum(tokens))
    so_far, own, others = 0.0, 0.0, 0.0
    for one in tokens:
        for begun, logprob in _elsewhere(one, span, text):
            possible = [label for label in spelled if label.startswith(begun) or begun.startswith(label)]
            mass = math.exp(so_far + logprob)
            own += mass if possible == [text] else 0.0
            others += mass if possible and possible != [text] else 0.0
        so_far += one.token.logprob
    own += math.exp(so_far)
    return own / (own + others) if own > 0 else 0.0


def _elsewhere(one: _Placed, span: _Span, text: bytes) -> Iterator[tuple[bytes, float]]:
    """What of a label would stand there after each alternative to a token, with the alternative's log-probability."""
    ahead = max(0, span.start - one.start)
    before = text[: max(0, one.start - span.start)]
    for other, logprob in one.token.others:
        begun = before + other[ahead:]
        if begun and other[:ahead] == one.token.text[:ahead]:
            yield begun, logprob


def _spelled(label: str) -> bytes:
    """A label as it stands in JSON, from its first character to its closing quote."""
    return orjson.dumps(label)[1:]
