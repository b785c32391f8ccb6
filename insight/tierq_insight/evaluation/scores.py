"""How good one answer is, measured against what was expected."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Any

from tierq_shared.specs import SpecBody

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Score:
    """From 0 (wrong) to 1 (right), and what it is made of."""

    value: float
    details: dict[str, Any]


def score(spec: SpecBody, expected: Any, output: Any) -> Score:
    """The score of an answer of any type but generate. ``output`` is None where no usable answer came."""
    if spec.type == "classify":
        return score_labels(expected, output)
    return score_fields(expected, output) if spec.type == "extract" else score_answer(expected, output)


def score_labels(expected: str | list[str], output: Any) -> Score:
    """1 where the label, or the whole set of labels, is the expected one."""
    given = sorted(output) if isinstance(output, list) else output
    return Score(float(given == expected), {"expected": expected, "given": given})


def score_fields(expected: dict[str, Any], output: Any) -> Score:
    """The share of fields that are right; fields are the leaves, and a list's items are compared in order.

    A field that is missing is null. For precision and recall only what is not null counts: an expected null that came
    as null is a field that is right, and no find.
    """
    wanted, given = dict(_leaves(expected)), dict(_leaves(output or {}))
    paths = wanted.keys() | given.keys()
    right = {path for path in paths if _same(wanted.get(path), given.get(path))}
    if output is None:
        right = set()
    found = {path for path in right if wanted.get(path) is not None}
    details = {
        "found": len(found),
        "given": sum(one is not None for one in given.values()),
        "expected": sum(one is not None for one in wanted.values()),
        "exact": output is not None and len(right) == len(paths),
    }
    return Score(len(right) / len(paths) if paths else 1.0, details)


def score_answer(expected: dict[str, Any], output: Any) -> Score:
    """1 where answerability and citations, as far as they are expected, are right.

    An expected text is compared by its words (F1 over the bag of words, as in SQuAD: Rajpurkar et al., 2016). It is the
    score only where nothing else is expected: a good answer may use other words.
    """
    details: dict[str, Any] = {}
    if "answerable" in expected:
        details["answerable"] = output is not None and output["answerable"] is expected["answerable"]
    if "citations" in expected:
        details["citations"] = output is not None and set(output["citations"]) == set(expected["citations"])
    if "answer" in expected:
        details["words"] = 0.0 if output is None else word_f1(expected["answer"], output["answer"])
    checks = [details[name] for name in ("answerable", "citations") if name in details]
    return Score(float(all(checks)) if checks else details["words"], details)


def word_f1(expected: str, given: str) -> float:
    """The harmonic mean of precision and recall over words, without articles, case and punctuation."""
    wanted, had = _words(expected), _words(given)
    shared = sum((Counter(wanted) & Counter(had)).values())
    if not wanted or not had:
        return float(wanted == had)
    return 2 * shared / (len(wanted) + len(had))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.casefold().translate(_NO_PUNCTUATION)).split()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its path. An empty object or list has none: whatever stands in it instead is too much."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _leaves(part, f"{path}[{place}]")
    else:
        yield path, value


def _same(wanted: Any, given: Any) -> bool:
    """Texts but for case and white space, numbers but for rounding in their last digits."""
    if isinstance(wanted, str) and isinstance(given, str):
        return wanted.casefold().split() == given.casefold().split()
    if _is_number(wanted) and _is_number(given):
        return isclose(wanted, given, rel_tol=1e-9, abs_tol=1e-9)
    return type(wanted) is type(given) and bool(wanted == given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
