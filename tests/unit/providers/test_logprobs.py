"""Log-probabilities are asked for only where they are wanted, and read with suspicion."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tierq_shared.outcomes import ErrorClass
from tierq_workers.providers import ADAPTERS, adapter_for
from tierq_workers.providers.base import Completion, ProviderError, Token
from tierq_workers.providers.logprobs import refuses_logprobs
from unit.providers.captured import answer, body_of, deployment, prompt

LOCAL = {"base_url": "http://localhost:8000/v1"}


def body(provider: Any, logprobs: int | None) -> dict[str, Any]:
    chosen = deployment(provider, **(LOCAL if provider == "openai-compatible" else {}))
    asked = adapter_for(chosen.provider).request(prompt(logprobs=logprobs), chosen, key="k", attempt_id="a")
    return body_of(asked)


@pytest.mark.parametrize("provider", ["openai", "openai-compatible"])
def test_openai_is_asked_as_its_reference_spells_it(provider: str) -> None:
    plain = body(provider, None)
    assert not {"logprobs", "top_logprobs"} & plain.keys()
    assert body(provider, 0) == {**plain, "logprobs": True}
    assert body(provider, 5) == {**plain, "logprobs": True, "top_logprobs": 5}


def test_gemini_is_asked_as_its_reference_spells_it() -> None:
    plain = body("gemini", None)["generationConfig"]
    assert not {"responseLogprobs", "logprobs"} & plain.keys()
    assert body("gemini", 0)["generationConfig"] == {**plain, "responseLogprobs": True}
    assert body("gemini", 5)["generationConfig"] == {**plain, "responseLogprobs": True, "logprobs": 5}


def test_anthropic_has_no_word_for_it() -> None:
    assert body("anthropic", 5) == body("anthropic", None)


TEXT = '{"é": 1}'


def openai(entries: Any) -> dict[str, Any]:
    choice = {"message": {"content": TEXT}, "finish_reason": "stop", "logprobs": {"content": entries, "refusal": None}}
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def gemini(result: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": TEXT}]}, "finishReason": "STOP", "avgLogprobs": -0.1}
    return {"candidates": [{**candidate, "logprobsResult": result}], "usageMetadata": {}}


def tokens(provider: Any, said: dict[str, Any]) -> tuple[Token, ...] | None:
    read = adapter_for(provider).parse(answer(said))
    assert isinstance(read, Completion)
    assert read.text == TEXT
    return read.tokens


ENTRY = {
    "token": '{"',
    "logprob": -0.25,
    "bytes": [123, 34],
    "top_logprobs": [
        {"token": '{"', "logprob": -0.25, "bytes": [123, 34]},
        {"token": "\\xc3", "logprob": -3.5, "bytes": [195]},
    ],
}


def test_openai_tokens() -> None:
    plain = {"token": "é", "logprob": -9999.0, "bytes": None, "top_logprobs": []}
    assert tokens("openai", openai([ENTRY, plain])) == (
        Token(b'{"', -0.25, ((b"\xc3", -3.5),)),
        Token("é".encode(), -9999.0),
    )


def test_gemini_tokens() -> None:
    chosen = [{"token": '{"', "tokenId": 1, "logProbability": -0.25}, {"token": "é", "logProbability": 0}]
    top = [{"candidates": [*chosen[:1], {"token": "{", "logProbability": -3.5}]}]
    result = {"chosenCandidates": chosen, "topCandidates": top}
    assert tokens("gemini", gemini(result)) == (Token(b'{"', -0.25, ((b"{", -3.5),)), Token("é".encode(), 0.0))


def test_a_rounding_error_above_certainty_is_certainty() -> None:
    assert tokens("openai", openai([{**ENTRY, "logprob": 1e-6}]))[0].logprob == 0.0  # type: ignore[index]


HOSTILE: list[Any] = [
    None,
    [],
    {},
    "x",
    [None],
    [[]],
    [{**ENTRY, "logprob": None}],
    [{**ENTRY, "logprob": "-0.1"}],
    [{**ENTRY, "logprob": True}],
    [{**ENTRY, "logprob": 0.5}],
    [{**ENTRY, "logprob": 1e300}],
    [{**ENTRY, "token": None, "bytes": None}],
    [{**ENTRY, "bytes": [300]}],
    [{**ENTRY, "bytes": ["x"]}],
    [{**ENTRY, "bytes": [[]]}],
    [{**ENTRY, "top_logprobs": [{"token": "x", "logprob": 2}]}],
    [{**ENTRY, "top_logprobs": [7]}],
    [ENTRY, {**ENTRY, "logprob": 3}],
]


@pytest.mark.parametrize("entries", HOSTILE, ids=repr)
def test_hostile_values_of_openai_are_none(entries: Any) -> None:
    assert tokens("openai", openai(entries)) is None


def spelled(entries: Any) -> Any:
    """The same values in Gemini's spelling."""
    if not isinstance(entries, list):
        return entries
    renamed = [
        {**one, "logProbability": one["logprob"], "token": one["token"] if one["bytes"] == [123, 34] else 7}
        if isinstance(one, dict)
        else one
        for one in entries
    ]
    steps = [{"candidates": [*one.get("top_logprobs", [])]} if isinstance(one, dict) else one for one in entries]
    return {"chosenCandidates": renamed, "topCandidates": steps}


@pytest.mark.parametrize("entries", HOSTILE, ids=repr)
def test_hostile_values_of_gemini_are_none(entries: Any) -> None:
    assert tokens("gemini", gemini(spelled(entries))) is None


def test_more_steps_than_tokens_make_no_sense() -> None:
    chosen = [{"token": TEXT, "logProbability": -0.1}]
    for top in ([{"candidates": []}] * 2, [{"candidates": []}] * 9):
        assert tokens("gemini", gemini({"chosenCandidates": chosen, "topCandidates": top})) is None


def test_what_is_not_a_number_in_json_is_no_body() -> None:
    broken = (
        b'{"choices": [{"message": {"content": "{}"}, "logprobs": {"content": [{"token": "{}", "logprob": NaN}]}}]}'
    )
    for provider in ADAPTERS:
        read = adapter_for(provider).parse(answer(broken))
        assert isinstance(read, ProviderError)
        assert math.isfinite(read.usage.total_tokens)


@pytest.mark.parametrize(
    ("provider", "status", "said"),
    [
        ("openai", 403, {"error": {"message": "You are not allowed to request logprobs from this model"}}),
        ("openai", 400, {"error": {"message": "logprobs are not supported with reasoning models."}}),
        ("gemini", 400, {"error": {"message": "Logprobs is not enabled for models/gemini-2.5-pro"}}),
        ("gemini", 400, {"error": {"message": "Logprobs is not supported for the current model."}}),
    ],
)
def test_models_that_give_none_are_told_from_broken_deployments(provider: Any, status: int, said: Any) -> None:
    read = adapter_for(provider).parse(answer(said, status))
    assert isinstance(read, ProviderError)
    assert refuses_logprobs(read)


def test_other_errors_are_not_about_log_probabilities() -> None:
    assert not refuses_logprobs(ProviderError(ErrorClass.AUTH, "Incorrect API key provided", 401))
    assert not refuses_logprobs(ProviderError(ErrorClass.OVERLOADED, "logprobs worker crashed", 503))


def test_long_answers_with_their_tokens_can_still_be_read() -> None:
    """A body is read up to a number of values, and each token with its bytes is a dozen of them."""
    count = 10_000
    text = "[" + "1234," * (count - 2) + "1]"
    pieces = ["[", *["1234,"] * (count - 2), "1]"]
    entries = [{"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": []} for piece in pieces]
    said = openai(entries)
    said["choices"][0]["message"]["content"] = text
    read = adapter_for("openai").parse(answer(said))
    assert isinstance(read, Completion)
    assert read.tokens is not None
    assert len(read.tokens) == count
