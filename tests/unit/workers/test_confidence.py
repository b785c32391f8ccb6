"""How sure an answer is, by its tokens and by samples."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_shared.money import Usage
from tierq_shared.specs import SpecBody
from tierq_workers import confidence
from tierq_workers.providers.base import Completion, Token

TRIAGE = SpecBody(type="classify", name="triage", labels={"bug": None, "billing": None, "bug_report": None})
MULTI = SpecBody(type="classify", name="triage", labels={"bug": None, "billing": None}, multi=True)
EXTRACT = SpecBody(type="extract", name="invoice", schema={"type": "object"})


def token(text: str, probability: float, **others: float) -> Token:
    alternatives = tuple((other.encode(), math.log(share)) for other, share in others.items())
    return Token(text.encode(), math.log(probability), alternatives)


def answer(*tokens: Token, text: str | None = None) -> Completion:
    spelled = b"".join(one.text for one in tokens).decode()
    return Completion(spelled if text is None else text, Usage(), tokens=tokens)


def test_a_labels_probability_is_the_product_of_its_tokens() -> None:
    given_ = answer(token('{"label": "', 0.3), token("bill", 0.9), token('ing"}', 0.5))
    assert confidence.of_tokens(TRIAGE, given_) == pytest.approx(1.0), "nothing else is known to be possible"
    other = answer(token('{"label": "', 0.3), token("bill", 0.9), token('ing"}', 0.5, board=0.5))
    assert confidence.of_tokens(TRIAGE, other) == pytest.approx(1.0), "what is no label does not count"


def test_other_labels_among_the_alternatives_count_against_it() -> None:
    given_ = answer(token('{"label": "', 1), token("bug", 0.6, bill=0.3, spam=0.1), token('"}', 0.8, _rep=0.2))
    own, others = 0.6 * 0.8, 0.3 + 0.6 * 0.2
    assert confidence.of_tokens(TRIAGE, given_) == pytest.approx(own / (own + others))


def test_the_same_label_in_other_tokens_counts_for_it() -> None:
    given_ = answer(token('{"label": "', 1), token("billing", 0.6, bi=0.2, b=0.1, bug=0.1), token('"}', 1))
    assert confidence.of_tokens(TRIAGE, given_) == pytest.approx((0.6 + 0.2) / (0.6 + 0.2 + 0.1 + 0.1))


def test_tokens_need_not_begin_where_the_label_does() -> None:
    first = token('{"label": "bu', 0.5, **{'{"label": "bill': 0.4, '{"label":': 0.1})
    given_ = answer(first, token('g"}', 0.8))
    assert confidence.of_tokens(TRIAGE, given_) == pytest.approx(0.4 / 0.8)


def test_a_label_that_is_spelled_with_escapes_has_its_own_share_alone() -> None:
    spec = SpecBody(type="classify", name="t", labels={"früh": None, "spät": None})
    given_ = answer(token('{"label": "', 1), token("fr\\u00fch", 0.7, sp=0.3), token('"}', 0.9))
    assert confidence.of_tokens(spec, given_) == pytest.approx(0.63)


def test_a_character_may_be_split_between_tokens() -> None:
    spec = SpecBody(type="classify", name="t", labels={"früh": None, "spät": None})
    pieces = (b'{"label": "fr', b"\xc3", b"\xbc", b'h"}')
    tokens = tuple(Token(piece, math.log(0.9)) for piece in pieces)
    assert confidence.of_tokens(spec, Completion('{"label": "früh"}', Usage(), tokens=tokens)) == pytest.approx(1.0)


def test_several_labels_are_as_sure_as_all_of_them() -> None:
    given_ = answer(
        token('{"labels": ["', 0.2), token("bug", 0.9), token('", "', 1), token('billing"', 0.8), token("]}", 1)
    )
    assert confidence.of_tokens(MULTI, given_) == pytest.approx(0.72)


def test_an_extraction_is_as_sure_as_its_least_sure_value() -> None:
    given_ = answer(
        token('{"total": ', 0.1),
        token("12", 0.9),
        token(".5", 0.4),
        token(', "of": ["', 0.1),
        token("x", 0.95),
        token('", ', 0.95),
        token("null", 0.8),
        token("]}", 0.1),
    )
    assert confidence.of_tokens(EXTRACT, given_) == pytest.approx(math.sqrt(0.9 * 0.4))


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '<think>{"a": 1}? yes</think>{"a": 1}', ' {"a": 1}\n'])
def test_what_stands_around_the_json_does_not_count(text: str) -> None:
    before, _, after = text.rpartition("1")
    given_ = answer(token(before, 0.2), token("1", 0.6), token(after, 0.2))
    assert confidence.of_tokens(EXTRACT, given_) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "given_",
    [
        Completion('{"label": "bug"}', Usage()),
        answer(token('{"label": "bug"', 0.9), text='{"label": "bug"}'),
        answer(token("something else", 0.9), text='{"label": "bug"}'),
        answer(token('{"label": "bug", "label": "bug"}', 0.9)),
        answer(token("{}", 0.9)),
        answer(token("", 0.9), text=""),
    ],
    ids=["none", "too few", "others", "twice", "no value", "nothing"],
)
def test_what_cannot_be_measured_is_none(given_: Completion) -> None:
    assert confidence.of_tokens(TRIAGE, given_) is None


def test_a_label_that_can_hardly_be_is_no_division_by_zero() -> None:
    given_ = answer(Token(b'{"label": "bug"}', -9999.0, ((b'{"label": "bill', -9999.0),)))
    assert confidence.of_tokens(TRIAGE, given_) == 0.0


LIKELY = st.tuples(st.binary(max_size=6), st.floats(-9999, 0))


@given(
    st.sampled_from(['{"label": "bug"}', '{"label":"billing"}']),
    st.lists(st.integers(0, 20), max_size=5),
    st.lists(LIKELY, max_size=4),
    st.floats(-9999, 0),
)
def test_it_is_between_0_and_1_however_the_answer_is_cut(
    text: str, cuts: list[int], others: list[tuple[bytes, float]], logprob: float
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end].encode() for start, end in pairwise(places)]
    tokens = tuple(Token(piece, logprob, tuple(others)) for piece in pieces)
    for spec in (TRIAGE, EXTRACT):
        measured = confidence.of_tokens(spec, Completion(text, Usage(), tokens=tokens))
        assert measured is not None
        assert 0.0 <= measured <= 1.0


def test_long_answers_are_measured_in_time_that_grows_with_them() -> None:
    tokens = [token("[", 1), *(token(f"{number}, ", 0.9) for number in range(20_000)), token("1]", 1)]
    assert confidence.of_tokens(EXTRACT, answer(*tokens)) == pytest.approx(0.9)


def test_a_verdict_is_the_probability_of_yes() -> None:
    assert confidence.of_verdict(says_yes=True, sureness=0.8) == 0.8
    assert confidence.of_verdict(says_yes=False, sureness=0.8) == pytest.approx(0.2)
    assert (
        confidence.of_verdict(says_yes=True, sureness=None),
        confidence.of_verdict(says_yes=False, sureness=None),
    ) == (1, 0)


def samples(type_: Any, *outputs: Any) -> confidence.Agreed | None:
    stored = [None if output is None else orjson.dumps(output).decode() for output in outputs]
    return confidence.of_samples(type_, stored)


def agreed(output: Any, share: float) -> confidence.Agreed:
    return confidence.Agreed(orjson.dumps(output).decode(), pytest.approx(share))  # type: ignore[arg-type]


def test_the_majority_is_kept_with_its_share() -> None:
    assert samples("classify", "bug", "billing", "billing") == agreed("billing", 2 / 3)
    assert samples("classify", "bug", "billing", "other") == agreed("bug", 1 / 3), "the earliest, where none leads"


def test_a_call_that_gave_nothing_supports_nothing() -> None:
    assert samples("classify", "bug", None, "bug") == agreed("bug", 2 / 3)
    assert samples("classify", None, None) is None


def test_the_order_of_labels_means_nothing() -> None:
    assert samples("classify", ["bug", "billing"], ["billing", "bug"]) == agreed(["bug", "billing"], 1.0)


def test_extractions_agree_field_by_field() -> None:
    first = {"vendor": "ACME", "total": 1.5}
    second = {"total": 2, "vendor": "ACME"}
    third = {"vendor": "ACME", "total": 2, "note": None}
    # On `note` all agree, since leaving it out is null; on vendor too; on total the first stands alone.
    assert samples("extract", first, second, third) == agreed(second, (3 + 2 + 3) / 9)
    assert samples("extract", {}, {}) == agreed({}, 1.0)


def test_the_wording_of_an_answer_is_not_compared() -> None:
    one = {"answer": "Blue.", "citations": ["p1", "p2"], "answerable": True}
    two = {"answer": "It is blue.", "citations": ["p2", "p1"], "answerable": True}
    other = {"answer": "Who knows.", "citations": [], "answerable": False}
    assert samples("answer", one, two, other) == agreed(one, 2 / 3)
