from __future__ import annotations

from typing import Any

import pytest

from tierq_shared.outcomes import ErrorClass
from tierq_workers.providers import adapter_for
from tierq_workers.providers.base import ProviderError, Response
from unit.providers.captured import answer, captured_errors

CLASSES = {
    ("openai", "429_rate"): ErrorClass.RATE_LIMITED,
    ("openai", "429_rate_ms"): ErrorClass.RATE_LIMITED,
    ("openai", "429_quota"): ErrorClass.QUOTA_EXHAUSTED,
    ("openai", "429_shouldretry_false"): ErrorClass.QUOTA_EXHAUSTED,
    ("openai", "400_ctx"): ErrorClass.TOO_LONG,
    ("openai", "400_shouldretry_true"): ErrorClass.OVERLOADED,
    ("openai", "401"): ErrorClass.AUTH,
    ("openai", "403"): ErrorClass.AUTH,
    ("openai", "404_model"): ErrorClass.INVALID_REQUEST,
    ("openai", "408"): ErrorClass.OVERLOADED,
    ("openai", "409"): ErrorClass.OVERLOADED,
    ("openai", "422"): ErrorClass.INVALID_REQUEST,
    ("openai", "500"): ErrorClass.OVERLOADED,
    ("openai", "503_html"): ErrorClass.OVERLOADED,
    ("openai", "429_long_ra"): ErrorClass.RATE_LIMITED,
    ("openai_resp", "429_quota"): ErrorClass.QUOTA_EXHAUSTED,
    ("anthropic", "429"): ErrorClass.RATE_LIMITED,
    ("anthropic", "529"): ErrorClass.OVERLOADED,
    ("anthropic", "529_shouldretry_true"): ErrorClass.OVERLOADED,
    ("anthropic", "500"): ErrorClass.OVERLOADED,
    ("anthropic", "504"): ErrorClass.OVERLOADED,
    ("anthropic", "503"): ErrorClass.OVERLOADED,
    ("anthropic", "400"): ErrorClass.TOO_LONG,
    ("anthropic", "400_credit"): ErrorClass.QUOTA_EXHAUSTED,
    ("anthropic", "402_billing"): ErrorClass.QUOTA_EXHAUSTED,
    ("anthropic", "401"): ErrorClass.AUTH,
    ("anthropic", "403"): ErrorClass.AUTH,
    ("anthropic", "404"): ErrorClass.INVALID_REQUEST,
    ("anthropic", "413"): ErrorClass.TOO_LONG,
    ("gemini", "429_retryinfo"): ErrorClass.RATE_LIMITED,
    ("gemini_retry3", "429_retryinfo"): ErrorClass.RATE_LIMITED,
    ("gemini", "503"): ErrorClass.OVERLOADED,
    ("gemini_retry3", "503"): ErrorClass.OVERLOADED,
    ("gemini", "400"): ErrorClass.INVALID_REQUEST,
    ("gemini", "400_key"): ErrorClass.AUTH,
    ("gemini", "403"): ErrorClass.AUTH,
    ("gemini", "404"): ErrorClass.INVALID_REQUEST,
    ("gemini", "500"): ErrorClass.OVERLOADED,
    ("gemini", "504"): ErrorClass.OVERLOADED,
    ("gemini", "499"): ErrorClass.OVERLOADED,
}
WAITS = {"429_rate": 1.0, "429_rate_ms": 0.3, "429_long_ra": 120.0, "429": 1.0, "429_retryinfo": 1.0}


def failure(response: Response, provider: Any = "openai-compatible") -> ProviderError:
    parsed = adapter_for(provider).parse(response)
    assert isinstance(parsed, ProviderError)
    return parsed


def test_every_captured_case_has_a_class() -> None:
    assert [(case["provider"], case["case"]) for case in captured_errors()] == list(CLASSES)


@pytest.mark.parametrize("case", captured_errors(), ids=lambda case: f"{case['provider']}-{case['case']}")
def test_captured_errors(case: dict[str, Any]) -> None:
    body = case["body"].encode() if isinstance(case["body"], str) else case["body"]
    response = answer(body, case["status"], **case["headers"])
    error = failure(response, case["provider"].split("_")[0])
    assert error.error_class is CLASSES[case["provider"], case["case"]]
    assert error.http_status == case["status"]
    assert error.retry_after_s == WAITS.get(case["case"])
    assert error.sent
    if case["provider"] == "anthropic":
        assert error.request_id == "req_x"
    if isinstance(case["body"], dict):
        assert error.message == case["body"]["error"]["message"]
    else:
        assert error.message == "HTTP 503 without a message"


def openai_shape(message: str = "x", code: object = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **more}}


def gemini_quota(quota_id: str) -> dict[str, Any]:
    failed = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}
    told = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
    message = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": [failed, told]}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # Gemini: the limit of a day is a quota, the limit of a minute is not, whatever its message says.
        (429, gemini_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), "quota_exhausted"),
        (429, gemini_quota("GenerateRequestsPerMinutePerProjectPerModel"), "rate_limited"),
        (429, [gemini_quota("GenerateRequestsPerDay")], "quota_exhausted"),
        (429, {"error": {"code": 429, "message": "Your project has exceeded its spending cap."}}, "quota_exhausted"),
        (400, {"error": {"message": "The input token count (9) exceeds the maximum number of tokens"}}, "too_long"),
        (400, {"error": {"message": "User location is not supported for the API use."}}, "auth"),
        (400, {"error": {"message": "Enable billing", "status": "FAILED_PRECONDITION"}}, "auth"),
        # Anthropic
        (400, {"error": {"message": "You have reached your specified API usage limits."}}, "quota_exhausted"),
        (400, {"error": {"message": "input length and `max_tokens` exceed context limit: 1 + 2 > 2"}}, "too_long"),
        (400, {"error": {"message": "Output blocked by content filtering policy"}}, "refused"),
        (400, {"error": {"message": "`top_k` is not supported"}}, "invalid_request"),
        # OpenAI and Azure
        (400, openai_shape(code="content_policy_violation"), "refused"),
        (400, openai_shape(code="content_filter"), "refused"),
        (400, openai_shape(innererror={"code": "ResponsibleAIPolicyViolation"}), "refused"),
        (400, openai_shape(code="billing_hard_limit_reached"), "quota_exhausted"),
        (429, openai_shape("Request too large for gpt-x on tokens per min (TPM): Limit 1, Requested 2"), "too_long"),
        (413, b"Payload Too Large", "too_long"),
        # compatible servers
        (400, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}, "too_long"),
        (400, {"object": "error", "message": "This model's maximum context length is 4096", "code": 400}, "too_long"),
        (400, {"error": "model 'x' does not support tools"}, "invalid_request"),
        (402, openai_shape("This request requires more credits"), "quota_exhausted"),
        (403, openai_shape(metadata={"flagged_input": "…", "reasons": ["violence"]}), "refused"),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required", "input": "secret"}]}, "invalid_request"),
        (498, b"", "overloaded"),
        (501, b"", "invalid_request"),
        (520, b"<html>cloudflare</html>", "overloaded"),
        (302, b"", "overloaded"),
        (404, b"<html>", "invalid_request"),
    ],
)  # fmt: skip
def test_classes(status: int, body: Any, expected: str) -> None:
    assert failure(answer(body, status)).error_class == expected


def test_gemini_says_its_wait_in_the_body() -> None:
    assert failure(answer(gemini_quota("PerMinute"), 429), "gemini").retry_after_s == 34.07


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429])
def test_a_retry_hint_changes_no_other_class(status: int) -> None:
    plain, hinted = (failure(answer({}, status)), failure(answer({}, status, x_should_retry="true")))
    if status == 404:
        assert (plain.error_class, hinted.error_class) == (ErrorClass.INVALID_REQUEST, ErrorClass.OVERLOADED)
    else:
        assert plain.error_class is hinted.error_class


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "300", "retry_after": "9"}, 0.3),
        ({"retry_after_ms": "x", "retry_after": "9"}, 9.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": " 2 "}, 2.0),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "1e300"}, 31 * 86_400.0),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 -0000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry_after": "Fri, 31 Dec 9999 23:59:59 -2359", "date": "Mon, 01 Jan 0001 00:00:00 +2359"}, 31 * 86_400.0),
        ({"retry_after": "Wed, 99 Foo 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(answer({}, 429, **headers)).retry_after_s == seconds


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abc***************wxyz",
        "sk-proj-Ab12_-Cd34",
        "sk-ant-api03-AAAA-bbbb",
        "AIzaSyA1234567890abcdefghij",
        "AQ.Ab8RN6abcdefghijklmnop",
        "gsk_abcdefghijkl1234",
        "0123456789abcdef0123456789abcdef",
        "9QkXw2mZ7Vt4Rb1Lc8Hs5Nd3Fj6Gp0Ye9QkXw2mZ7Vt4",
    ],
)
def test_keys_in_messages_are_masked(secret: str) -> None:
    for message in (f"Incorrect API key provided: {secret}.", f"key {secret} is bad", f"got 'Bearer {secret}'"):
        shown = failure(answer({"error": {"message": message}}, 401)).message
        assert secret[:12] not in shown
        assert "***" in shown


def test_an_unknown_kind_of_key_is_masked_where_the_message_says_it_is_one() -> None:
    for message in ("Incorrect API key provided: hunter2!.", "Authorization: Bearer hunter2!", "url?key=hunter2!&x=1"):
        assert "hunter2" not in failure(answer({"error": {"message": message}}, 401)).message


def test_messages_are_short_printable_and_one_line() -> None:
    shown = failure(answer({"error": {"message": "a\x00b\x1b[31m\nc\u202e " + "x " * 5_000}}, 400)).message
    assert shown.startswith("a b [31m c x x")
    assert len(shown) == 300
    assert shown.isprintable()


def test_messages_do_not_repeat_the_request() -> None:
    vllm = "[{'type': 'missing', 'loc': ('body',), 'msg': 'Field required', 'input': {'messages': 'PRIVATE'}}]"
    assert "PRIVATE" not in failure(answer({"object": "error", "message": vllm}, 400)).message
    fastapi = {"detail": [{"msg": "Field required", "input": "PRIVATE"}]}
    assert failure(answer(fastapi, 422)).message == "Field required"
    assert "PRIVATE" not in failure(answer(b"<p>PRIVATE</p>", 403)).message
    assert "PRIVATE" not in failure(answer(b'{"error": {"message": "PRIVATE', 400)).message


def test_a_line_of_plain_text_is_the_message() -> None:
    assert failure(answer(b"upstream connect error\r\n", 503)).message == "upstream connect error"


def test_request_ids_come_from_headers_or_body() -> None:
    assert failure(answer({}, 500, x_request_id="a", request_id="b")).request_id == "a"
    assert failure(answer({"request_id": "c"}, 500, request_id="b")).request_id == "b"
    assert failure(answer({"request_id": "c"}, 500)).request_id == "c"
    assert failure(answer({"request_id": 7}, 500)).request_id is None


def test_errors_inside_a_success() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"error": {"code": 502, "message": "Provider returned error"}}, "overloaded"),
        ({"error": {"code": "429", "message": "slow down"}}, "rate_limited"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded"),
        ({"error": {"code": "insufficient_quota", "message": "x"}}, "quota_exhausted"),
        ({"error": {"message": "what"}}, "invalid_output"),
        ({"error": "what"}, "invalid_output"),
    ]
    for body, expected in cases:
        assert failure(answer(body)).error_class == expected
