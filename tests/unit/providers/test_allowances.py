"""What each provider's headers say of its limits, and that nothing else is taken for one."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierq_workers.providers.allowances import NOTHING_SAID, Allowance, read_allowance

OPENAI = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999944",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "1ms",
}
AZURE = {"x-ratelimit-remaining-requests": "599", "x-ratelimit-remaining-tokens": "59944"}
AZURE_WITH_LIMITS = {**AZURE, "x-ratelimit-limit-requests": "600", "x-ratelimit-limit-tokens": "60000"}
GROQ = {
    # Requests of a day, tokens of a minute.
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-reset-tokens": "7.66ms",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-01-27T12:00:00Z",
    "anthropic-ratelimit-tokens-limit": "500000",
    "anthropic-ratelimit-tokens-remaining": "499000",
    "anthropic-ratelimit-tokens-reset": "2026-01-27T12:00:00Z",
}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (OPENAI, Allowance(10_000, 2_000_000, 9_999, 1_999_944)),
        (AZURE_WITH_LIMITS, Allowance(600, 60_000, 599, 59_944)),
        (GROQ, Allowance(0, 18_000, None, 17_997)),
        (ANTHROPIC, Allowance(4_000, 500_000, 3_999, 499_000)),
    ],
    ids=["openai", "azure", "groq", "anthropic"],
)
def test_each_providers_spelling_is_read(headers: dict[str, str], said: Allowance) -> None:
    assert read_allowance(headers) == said


def test_the_spelling_of_the_headers_names_does_not_matter() -> None:
    # As the transport hands them on.
    headers = httpx.Headers({name.title(): value for name, value in OPENAI.items()})
    assert read_allowance(headers) == read_allowance(OPENAI)


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}, {"retry-after": "3"}])
def test_without_such_headers_nothing_is_said(headers: dict[str, str]) -> None:
    assert read_allowance(headers) is None


def test_a_limit_of_which_only_one_half_is_told() -> None:
    tokens = {name: value for name, value in OPENAI.items() if name.endswith("tokens")}
    assert read_allowance(tokens) == Allowance(0, 2_000_000, None, 1_999_944)
    assert read_allowance({"x-ratelimit-limit-requests": "60"}) == Allowance(60)


def test_an_empty_allowance_is_told_as_zero_left() -> None:
    empty = {**OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}
    said = read_allowance(empty)
    assert said is not None
    assert (said.requests_per_minute, said.requests_left) == (10_000, 0)


@pytest.mark.parametrize(
    ("limit", "left", "reset", "is_rate"),
    [
        ("60", "59", "1s", True),
        ("60", "0", "1m0s", True),
        ("500", "499", "120ms", True),
        ("300", "0", "5m", True),
        ("1000", "999", "1m26.4s", False),
        ("1000", "0", "24h0m0s", False),
        ("1000", "1000", "0s", True),
        ("1000", "998", "1d", False),
    ],
)
def test_a_limit_of_a_day_is_no_rate_to_keep_to(limit: str, left: str, reset: str, is_rate: bool) -> None:
    said = read_allowance(
        {
            "x-ratelimit-limit-requests": limit,
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": reset,
        }
    )
    assert said == (Allowance(float(limit), 0, int(left)) if is_rate else NOTHING_SAID)


GARBAGE = ["", " ", "many", "-5", "1e9", "1.5", "٣٠٠", "²", "9" * 13, "0x10", "10,000", "100, 100;window=60"]


@pytest.mark.parametrize("value", GARBAGE)
def test_what_is_no_count_says_nothing(value: str) -> None:
    assert read_allowance({**OPENAI, "x-ratelimit-limit-requests": value}) == Allowance(0, 2_000_000, None, 1_999_944)
    said = read_allowance({**ANTHROPIC, "anthropic-ratelimit-tokens-remaining": value})
    assert said == Allowance(4_000, 500_000, 3_999, None)


@pytest.mark.parametrize(
    "value", ["", "soon", "6", "1s ago", "m", "-1s", "1 s", "2026-01-27T12:00:00Z", "9" * 4_000 + "s"]
)
def test_a_reset_that_is_no_span_is_passed_over(value: str) -> None:
    said = read_allowance({**OPENAI, "x-ratelimit-reset-tokens": value})
    assert said is not None
    assert said.requests_per_minute == 10_000


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC]), st.text(max_size=30)))
def test_whatever_the_headers_hold_is_read_without_an_error(headers: dict[str, str]) -> None:
    said = read_allowance(headers) or NOTHING_SAID
    assert said.requests_per_minute >= 0
    assert said.tokens_per_minute >= 0
