from __future__ import annotations

from typing import Any

import pytest

from tierq_shared.prompts import Turn
from tierq_workers.providers import ADAPTERS, adapter_for
from tierq_workers.providers.base import ATTEMPT_HEADER, Request
from unit.providers.captured import KEY, SCHEMA, body_of, captured, deployment, path_of, prompt

PROVIDERS = ["openai", "openai-compatible", "anthropic", "gemini"]
LOCAL = "http://localhost:8000/v1"


def build(provider: str, model: str = "m", *, key: str | None = KEY, prompted: Any = None, **fields: Any) -> Request:
    if provider == "openai-compatible":
        fields.setdefault("base_url", LOCAL)
    chosen = deployment(provider, model, **fields)
    return adapter_for(chosen.provider).request(prompted or prompt(), chosen, key=key, attempt_id="a-1")


def assert_headers(request: Request, expected: dict[str, str], *names: str) -> None:
    for name in (*names, "content-type", "accept"):
        if expected[name] != "*/*":
            assert request.headers[name] == expected[name].replace("<KEY>", KEY)


def test_every_provider_has_an_adapter() -> None:
    assert list(ADAPTERS) == PROVIDERS


def test_openai_says_what_the_sdk_says() -> None:
    wire = captured("openai_chat_json_schema")
    params = {"service_tier": "flex", "metadata": {"a": "b"}, "seed": 1, "temperature": 0}
    request = build("openai", "gpt-4o-mini", params=params)
    assert body_of(request) == wire["body"]
    assert request.url == "https://api.openai.com" + wire["path"]
    assert_headers(request, wire["headers"], "authorization")


def test_openai_strict_schema_is_the_sdks_for_a_pydantic_model() -> None:
    theirs = captured("openai_chat_parse_pydantic")["body"]["response_format"]
    loose = {name: value for name, value in theirs["json_schema"]["schema"].items() if name != "additionalProperties"}
    assert body_of(build("openai", prompted=prompt(schema=loose, schema_name="Out")))["response_format"] == theirs


def test_anthropic_says_what_the_sdk_says() -> None:
    wire = captured("anthropic_output_config")
    request = build("anthropic", "claude-haiku-4-5")
    assert body_of(request) == wire["body"]
    assert request.url == "https://api.anthropic.com" + wire["path"]
    assert_headers(request, wire["headers"], "authorization", "anthropic-version")
    assert "x-api-key" not in request.headers


def test_anthropic_schema_constrains_like_the_sdks_for_a_pydantic_model() -> None:
    theirs = captured("anthropic_parse_pydantic")["body"]["output_config"]["format"]
    ours = body_of(build("anthropic", prompted=prompt(schema=theirs["schema"])))["output_config"]["format"]
    # The SDK drops the type beside an enum; saying it as well narrows nothing.
    ours["schema"]["properties"]["label"].pop("type")
    assert ours == theirs


def test_anthropic_marks_a_long_constant_part_for_the_cache_as_the_sdk_spells_it() -> None:
    block = captured("anthropic_tool_use")["body"]["system"][0]
    long = "word " * 1000
    assert body_of(build("anthropic", prompted=prompt(system=long)))["system"] == [{**block, "text": long}]


def test_an_older_anthropic_version_takes_the_key_as_x_api_key() -> None:
    sent = build("anthropic", api_version="2023-06-01").headers
    assert sent["x-api-key"] == KEY
    assert sent["anthropic-version"] == "2023-06-01"
    assert "authorization" not in sent


def test_anthropic_keeps_the_deployments_own_output_config() -> None:
    config = body_of(build("anthropic", params={"output_config": {"effort": "low"}}))["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["schema"] == SCHEMA


def test_gemini_says_what_the_sdk_says() -> None:
    wire = captured("gemini_response_json_schema")
    params = {"safetySettings": wire["body"]["safetySettings"], "thinkingConfig": {"thinking_budget": 0}}
    request = build("gemini", "gemini-2.5-flash", params=params, prompted=prompt(system=""))
    body = body_of(request)
    assert body["generationConfig"].pop("maxOutputTokens") == 64
    assert body == wire["body"]
    assert request.url == "https://generativelanguage.googleapis.com" + wire["path"]
    assert_headers(request, wire["headers"], "x-goog-api-key")


def test_gemini_spells_system_instruction_and_sampling_as_the_sdk_does() -> None:
    theirs = captured("gemini_response_schema_pydantic")["body"]
    ours = body_of(build("gemini", params={"temperature": 0.0, "seed": 1}))
    assert ours["systemInstruction"] == theirs["systemInstruction"]
    assert ours["contents"] == theirs["contents"]
    for name in ("temperature", "maxOutputTokens", "seed", "responseMimeType"):
        assert ours["generationConfig"][name] == theirs["generationConfig"][name]


def test_gemini_api_version_and_model_paths() -> None:
    assert path_of(build("gemini", api_version="v1beta")) == "/v1beta/models/m:generateContent"
    assert path_of(build("gemini", "tunedModels/t")) == "/v1/tunedModels/t:generateContent"


def test_a_compatible_server_gets_the_older_spelling_and_nothing_strict_servers_refuse() -> None:
    body = body_of(build("openai-compatible", key=None))
    assert body["max_tokens"] == 64
    assert not {"store", "max_completion_tokens"} & body.keys()
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_compatible_server_without_a_key_gets_no_authorization() -> None:
    assert "authorization" not in build("openai-compatible", key=None).headers


@pytest.mark.parametrize("provider", PROVIDERS)
def test_prompt_mode_asks_for_no_schema(provider: str) -> None:
    body = body_of(build(provider, structured_output="prompt"))
    assert not {"response_format", "output_config"} & body.keys()
    assert "responseJsonSchema" not in body.get("generationConfig", {})


@pytest.mark.parametrize("provider", PROVIDERS)
def test_free_text_asks_for_no_schema(provider: str) -> None:
    body = body_of(build(provider, prompted=prompt(schema=None)))
    assert not {"response_format", "output_config"} & body.keys()
    assert "responseMimeType" not in body.get("generationConfig", {})


def test_azure_keeps_its_query_and_takes_the_key_in_its_own_header() -> None:
    base = "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21"
    request = build("openai-compatible", base_url=base, headers={"API-Key": "{key}"})
    assert request.url == ("https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21")
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("provider", "base", "url"),
    [
        ("openai", "https://p/v1/", "https://p/v1/chat/completions"),
        ("openai", "https://p/v1/chat/completions", "https://p/v1/chat/completions"),
        ("anthropic", "https://p", "https://p/v1/messages"),
        ("anthropic", "https://p/v1", "https://p/v1/messages"),
        ("anthropic", "https://p/anthropic/", "https://p/anthropic/v1/messages"),
        ("gemini", "https://p/v1", "https://p/v1/models/m:generateContent"),
    ],
)
def test_base_urls(provider: str, base: str, url: str) -> None:
    assert build(provider, base_url=base).url == url


@pytest.mark.parametrize("provider", PROVIDERS)
def test_headers_carry_the_attempt_and_the_deployments_own(provider: str) -> None:
    sent = build(provider, headers={"X-Team": "blue"}, key=f" {KEY}\n").headers
    assert sent[ATTEMPT_HEADER] == "a-1"
    assert sent["x-team"] == "blue"
    assert any(value.endswith(KEY) for value in sent.values())
    assert not any("{key}" in value for value in sent.values())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_secret_or_private_is_in_a_repr(provider: str) -> None:
    shown = repr(build(provider))
    assert KEY not in shown
    assert "WIN money" not in shown


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_constant_part_is_the_same_bytes_for_every_input(provider: str) -> None:
    one, other = (
        build(provider, prompted=prompt(turns=(Turn("user", text),))).body.replace(text.encode(), b"")
        for text in ("first", "second")
    )
    assert one == other


@pytest.mark.parametrize(
    ("provider", "params", "name", "sent"),
    [
        ("openai", {"max_completion_tokens": 10}, "max_completion_tokens", 10),
        ("openai", {"max_tokens": 900}, "max_tokens", 64),
        ("openai-compatible", {"max_completion_tokens": 900}, "max_completion_tokens", 64),
        ("anthropic", {"max_tokens": 900}, "max_tokens", 64),
    ],
)
def test_the_tasks_output_bound_holds_against_params(provider: str, params: Any, name: str, sent: int) -> None:
    body = body_of(build(provider, params=params))
    assert {n: v for n, v in body.items() if n.startswith("max_")} == {name: sent}


def test_geminis_output_bound_holds_against_params() -> None:
    config = body_of(build("gemini", params={"generationConfig": {"max_output_tokens": 900, "topK": 3}}))
    assert config["generationConfig"]["max_output_tokens"] == 64
    assert config["generationConfig"]["topK"] == 3


def test_params_cannot_multiply_or_stream_answers() -> None:
    body = body_of(build("openai", params={"n": 8, "stream": True, "model": "other", "reasoning_effort": "low"}))
    assert not {"n", "stream"} & body.keys()
    assert body["model"] == "m"
    assert body["reasoning_effort"] == "low"
    assert "candidateCount" not in body_of(build("gemini", params={"candidateCount": 8}))["generationConfig"]


def test_a_re_ask_keeps_its_turns_in_order() -> None:
    asked = prompt().reask("ham?", "it is no JSON")
    assert [m["role"] for m in body_of(build("openai", prompted=asked))["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert [m["role"] for m in body_of(build("anthropic", prompted=asked))["messages"]] == ["user", "assistant", "user"]
    assert [m["role"] for m in body_of(build("gemini", prompted=asked))["contents"]] == ["user", "model", "user"]


def test_a_schema_name_is_made_fit_for_openai() -> None:
    name = "Größe / v2 " + "x" * 80
    sent = body_of(build("openai", prompted=prompt(schema_name=name)))["response_format"]["json_schema"]["name"]
    assert sent.startswith("Gr__e___v2_")
    assert len(sent) == 64
