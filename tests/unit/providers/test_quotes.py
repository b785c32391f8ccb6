"""What a provider's message repeats of the request is taken out of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tierq_workers.providers import adapter_for
from tierq_workers.providers.base import ProviderError, Response
from tierq_workers.providers.quotes import masked, without_prompt, without_secrets
from unit.providers.captured import KEY, deployment, prompt

BODY = orjson.dumps(
    {"model": "a-model-with-quite-a-long-name", "messages": [{"content": "Die Rechnung  für\nFrau Müller"}]}
)


def test_a_run_of_the_prompt_becomes_stars() -> None:
    assert without_prompt("bad: Die Rechnung für Frau Müller!", BODY) == "bad: ***!"


def test_a_prompt_that_is_quoted_with_escapes_is_found_too() -> None:
    assert without_prompt(r"bad: Die Rechnung f\u00fcr Frau M\u00fcller!", BODY) == "bad: ***!"


@pytest.mark.parametrize("message", ["The Rechnung für Frau", "a-model-with-quite-a-long-name does not exist", ""])
def test_short_runs_and_the_models_name_stay(message: str) -> None:
    assert without_prompt(message, BODY) == message


def test_every_run_of_the_length_is_found_wherever_it_stands() -> None:
    source = "".join(chr(0x4E00 + number) for number in range(200))
    for start in range(180):
        assert masked(f"x{source[start : start + 20]}y", source, 20) == "x***y"
        assert "*" not in masked(source[start : start + 19], source, 20)


def test_headers_that_may_hold_a_secret_are_masked_and_plain_ones_not() -> None:
    headers = {"content-type": "application/json", "x-team": "hushhush-42"}
    assert without_secrets("hushhush-42 is no application/json", headers) == "*** is no application/json"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "openai-compatible"])
def test_each_adapter_takes_key_and_prompt_out_of_message_and_id(provider: Any) -> None:
    base_url = "https://host" if provider == "openai-compatible" else None
    asked = adapter_for(provider).request(
        prompt(), deployment(provider, base_url=base_url), key="my.own.key.1234", attempt_id="a"
    )
    echo = asked.body.decode() + str(asked.headers)
    body = orjson.dumps({"error": {"message": echo}})
    found = adapter_for(provider).parse(Response(400, {"x-request-id": "r my.own.key.1234"}, body, asked))
    assert isinstance(found, ProviderError)
    assert "my.own.key" not in found.message
    assert prompt().system[:20] not in found.message
    assert found.request_id is None
    assert KEY not in found.message
