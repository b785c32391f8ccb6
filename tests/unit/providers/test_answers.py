from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_shared.money import Usage
from tierq_shared.outcomes import ErrorClass
from tierq_workers.providers import ADAPTERS, adapter_for
from tierq_workers.providers.base import Completion, ProviderError, Response
from unit.providers.captured import answer

PROVIDERS: list[Any] = list(ADAPTERS)


def openai_body(message: dict[str, Any], ended: object = "stop", usage: Any = None) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"message": message, "finish_reason": ended}], "usage": usage}


def anthropic_body(text: str | None, ended: str = "end_turn", **usage: int) -> dict[str, Any]:
    content = [{"type": "thinking", "thinking": "hm"}] + ([{"type": "text", "text": text}] if text is not None else [])
    return {"id": "msg_1", "type": "message", "content": content, "stop_reason": ended, "usage": usage}


def gemini_body(text: str | None, ended: str | None = "STOP", **usage: int) -> dict[str, Any]:
    parts = [{"text": "hm", "thought": True}] + ([{"text": text}] if text is not None else [])
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": ended}],
        "usageMetadata": usage,
        "responseId": "resp-1",
    }


def parse(provider: Any, body: Any, **headers: str) -> Completion | ProviderError:
    return adapter_for(provider).parse(answer(body, **headers))


def completion(provider: Any, body: Any) -> Completion:
    parsed = parse(provider, body)
    assert isinstance(parsed, Completion)
    return parsed


def failure(provider: Any, body: Any) -> ProviderError:
    parsed = parse(provider, body)
    assert isinstance(parsed, ProviderError)
    return parsed


OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


def test_openai_completion() -> None:
    body = openai_body({"content": "{}"}, usage=OPENAI_USAGE)
    assert parse("openai", body, x_request_id="req_1") == Completion(
        "{}", Usage(100, 60, 0, 50, 30), truncated=False, request_id="req_1", response_id=body["id"]
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 5}, Usage(9, 5, 0, 2, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 4}}, Usage(9, 0, 4, 0, 0)),
        # Reasoning that is counted beside the output, and an output that is not counted at all.
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 18}, Usage(9, 0, 0, 9, 0)),
        ({"prompt_tokens": 9, "total_tokens": 18}, Usage(9, 0, 0, 9, 0)),
        ({"prompt_tokens": 9.0, "completion_tokens": "2"}, Usage(9, 0, 0, 0, 0)),
        ({"prompt_tokens": -9, "completion_tokens": True, "total_tokens": 2**63}, Usage()),
        ({"prompt_tokens": 1e400, "completion_tokens": 0.5}, Usage()),
        (None, Usage()),
        ([], Usage()),
    ],
)
def test_compatible_usage(usage: Any, expected: Usage) -> None:
    raw = json.dumps(openai_body({"content": "x"}, usage=usage)).replace("Infinity", "1e400").encode()
    parsed = parse("openai-compatible", raw)
    assert parsed.usage == expected


def test_anthropic_usage_adds_what_the_cache_read_and_wrote() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200}
    parsed = completion("anthropic", anthropic_body("{}", **usage, output_tokens=7))
    assert parsed == Completion("{}", Usage(1210, 1000, 200, 7, 0), request_id="msg_1", response_id="msg_1")


def test_gemini_usage_adds_the_thoughts() -> None:
    usage = {"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 5}
    parsed = completion("gemini", gemini_body("{}", **usage, thoughtsTokenCount=20, totalTokenCount=125))
    assert parsed == Completion("{}", Usage(100, 40, 0, 25, 20), request_id="resp-1", response_id="resp-1")


@pytest.mark.parametrize(
    ("provider", "whole", "cut", "empty"),
    [
        (
            "openai",
            openai_body({"content": "{"}),
            openai_body({"content": "{"}, "length"),
            openai_body({"content": None}, "length"),
        ),
        ("anthropic", anthropic_body("{"), anthropic_body("{", "max_tokens"), anthropic_body(None, "max_tokens")),
        ("gemini", gemini_body("{"), gemini_body("{", "MAX_TOKENS"), gemini_body(None, "MAX_TOKENS")),
    ],
)
def test_truncation(provider: Any, whole: Any, cut: Any, empty: Any) -> None:
    assert not completion(provider, whole).truncated
    assert completion(provider, cut).truncated
    assert completion(provider, empty).truncated
    assert completion(provider, empty).text == ""


USED = {"prompt_tokens": 3, "completion_tokens": 4}


@pytest.mark.parametrize(
    ("provider", "body", "spent"),
    [
        ("openai", openai_body({"content": None, "refusal": "I cannot: PRIVATE"}, usage=USED), Usage(3, 0, 0, 4, 0)),
        ("openai", openai_body({"content": "PRIVATE"}, "content_filter", usage=USED), Usage(3, 0, 0, 4, 0)),
        ("anthropic", anthropic_body("PRIVATE", "refusal", input_tokens=3, output_tokens=4), Usage(3, 0, 0, 4, 0)),
        ("gemini", gemini_body("PRIVATE", "SAFETY", promptTokenCount=3, candidatesTokenCount=4), Usage(3, 0, 0, 4, 0)),
        ("gemini", gemini_body(None, "PROHIBITED_CONTENT"), Usage()),
        (
            "gemini",
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}},
            Usage(input_tokens=3),
        ),
    ],
)
def test_refusals_are_charged_and_never_quoted(provider: Any, body: Any, spent: Usage) -> None:
    error = failure(provider, body)
    assert error.error_class is ErrorClass.REFUSED
    assert error.usage == spent
    assert error.http_status == 200
    assert "PRIVATE" not in error.message


def test_the_end_of_anthropics_context_window_is_too_long() -> None:
    error = failure("anthropic", anthropic_body("{", "model_context_window_exceeded", input_tokens=3))
    assert (error.error_class, error.usage.input_tokens) == (ErrorClass.TOO_LONG, 3)


def test_an_error_of_the_choice_is_the_calls() -> None:
    failed = {"error": {"code": 502, "message": "x"}, "finish_reason": "error", "message": {"content": "a"}}
    error = failure("openai-compatible", {"choices": [failed], "usage": USED})
    assert (error.error_class, error.usage) == (ErrorClass.OVERLOADED, Usage(3, 0, 0, 4, 0))


def test_an_answer_with_an_error_beside_it_is_an_answer() -> None:
    assert completion("openai-compatible", {**openai_body({"content": "a"}), "error": {"code": 0}}).text == "a"


def test_text_in_parts_is_joined() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert completion("openai-compatible", openai_body({"content": parts})).text == "ab"


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("openai", openai_body({"content": None, "tool_calls": []}, "tool_calls", usage=USED)),
        ("openai", {"choices": [], "usage": USED}),
        ("openai", {"choices": {"0": "x"}, "usage": USED}),
        ("openai", {"choices": ["x"], "usage": USED}),
        ("openai", {"choices": [{"message": "x"}], "usage": USED}),
        ("anthropic", anthropic_body(None, input_tokens=3, output_tokens=4)),
        ("gemini", gemini_body("{", "MALFORMED_FUNCTION_CALL", promptTokenCount=3, candidatesTokenCount=4)),
        ("gemini", {"candidates": [], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}}),
    ],
)
def test_an_answer_without_text_is_charged_all_the_same(provider: Any, body: Any) -> None:
    error = failure(provider, body)
    assert error.error_class is ErrorClass.INVALID_OUTPUT
    assert error.usage == Usage(3, 0, 0, 4, 0)


HOSTILE = [
    b"",
    b"<html>ok</html>",
    b'{"choices": [{"message": {"content": "cut',
    b"[" * 100_000,
    b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    b'{"choices": NaN}',
    '{"choices": "ü"}'.encode("latin-1"),
    '{"choices": []}'.encode("utf-16"),
    b'{"choices": "\\ud800"}',
    b"null",
    b"true",
    b"[]",
    b'"text"',
    b"1e999",
    b"{}",
    b'{"choices": null, "content": 3, "candidates": [[]], "usage": "x", "usageMetadata": [1], "stop_reason": []}',
    b'{"choices": [{"finish_reason": [], "message": []}], "candidates": [{"finishReason": {}, "content": 1}]}',
    b"data: {}\n\ndata: [DONE]\n\n",
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_body_that_makes_no_sense_is_invalid_output(provider: Any, body: bytes) -> None:
    error = failure(provider, body)
    assert error.error_class is ErrorClass.INVALID_OUTPUT
    assert error.http_status == 200


def test_reprs_hold_no_text() -> None:
    response = answer(openai_body({"content": "PRIVATE"}))
    assert "PRIVATE" not in repr(response)
    assert "PRIVATE" not in repr(adapter_for("openai").parse(response))


NAMES = """
    error message code type status details reason metadata innererror violations quotaId retryDelay detail msg
    choices finish_reason content text refusal usage prompt_tokens total_tokens prompt_tokens_details
    stop_reason stop_details input_tokens candidates finishReason parts thought usageMetadata promptFeedback
    blockReason promptTokenCount id request_id responseId
"""
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5),
    max_leaves=20,
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-request-id", "x-should-retry", "content-type"]),
    st.text(max_size=40),
)
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 413, 429, 500, 529]) | st.integers(0, 999)


@pytest.mark.parametrize("provider", PROVIDERS)
@given(status=STATUSES, headers=HEADERS, body=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_parse_never_raises(provider: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    parsed = adapter_for(provider).parse(Response(status, headers, body))
    assert isinstance(parsed, Completion | ProviderError)
    if isinstance(parsed, ProviderError):
        assert len(parsed.message) <= 400
        assert parsed.message.isprintable()
        assert parsed.retry_after_s is None or 0 <= parsed.retry_after_s < 10**7
