"""Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.prompts import Prompt
from tierq_workers.providers.base import Adapter, Completion, ProviderError, Request, Response
from tierq_workers.providers.classes import refused, success_body, too_long, unreadable
from tierq_workers.providers.schemas import for_anthropic
from tierq_workers.providers.wire import as_dict, as_list, as_text, bound, count, endpoint, headers, request_id

VERSION = "2026-10-21"
"""The `anthropic-version` that is sent unless the deployment names one, as the official SDK 2.12 pins it.

From this version on the API takes the key as a bearer token and refuses `temperature`, `top_p` and `top_k` with 400;
earlier ones (2023-06-01) take it as `x-api-key`.
"""

CACHED_FROM_TOKENS = 1024
"""A shorter prefix is never cached, by Anthropic's prompt caching guide; some models want more and ignore the mark."""
_BYTES_PER_TOKEN = 4

_PATH = "/v1/messages"
_NOT_OURS = frozenset({"stream"})


class AnthropicAdapter(Adapter):
    """Messages at ``{base_url}/v1/messages`` with `output_config.format`, at a pinned `anthropic-version`."""

    def request(self, prompt: Prompt, deployment: Deployment, *, key: str | None, attempt_id: str) -> Request:
        params = {name: value for name, value in deployment.params.items() if name not in _NOT_OURS}
        config = output_config(prompt, deployment)
        body = {
            **params,
            "model": deployment.model,
            **bound(params, ("max_tokens",), prompt.max_output_tokens),
            **_system(prompt.system),
            "messages": [{"role": turn.role, "content": turn.text} for turn in prompt.turns],
            **({"output_config": config} if config else {}),
        }
        return Request(endpoint(deployment, _PATH), _headers(deployment, key, attempt_id), orjson.dumps(body))

    def read(self, response: Response) -> Completion | ProviderError:
        body = success_body(response)
        if isinstance(body, ProviderError):
            return body
        usage = read_usage(as_dict(body.get("usage")))
        named = request_id(response.headers, body.get("request_id"), body.get("id"))
        ended = body.get("stop_reason")
        if ended == "refusal":
            why = as_text(as_dict(body.get("stop_details")).get("category")) or "refusal"
            return refused(response, why, usage=usage, request_id=named)
        if ended == "model_context_window_exceeded":
            return too_long(
                response, "the context window was full before the answer ended", usage=usage, request_id=named
            )
        text = _text(body)
        if text is None and ended != "max_tokens":
            return unreadable(response, "the answer holds no text block", usage=usage, request_id=named)
        answered = request_id({}, body.get("id"))
        return Completion(text or "", usage, truncated=ended == "max_tokens", request_id=named, response_id=answered)


def output_config(prompt: Prompt, deployment: Deployment) -> dict[str, Any]:
    """The body's `output_config`: the deployment's own (such as `effort`), with the schema as its `format`."""
    config = as_dict(deployment.params.get("output_config"))
    if prompt.schema is None or deployment.structured_output == "prompt":
        return config
    fitted = for_anthropic(prompt.schema)
    return (
        config if fitted is None else {**config, "format": {"type": "json_schema", "schema": orjson.Fragment(fitted)}}
    )


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Anthropic's counts. Its `input_tokens` are those neither read from the cache nor written to it: all are added."""
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=count(usage.get("output_tokens")),
        reasoning_tokens=count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _headers(deployment: Deployment, key: str | None, attempt_id: str) -> dict[str, str]:
    version = deployment.api_version or VERSION
    auth = {"authorization": "Bearer {key}"} if version >= VERSION else {"x-api-key": "{key}"}
    return headers(deployment, {"anthropic-version": version, **auth}, key=key, attempt_id=attempt_id)


def _system(text: str) -> dict[str, Any]:
    if not text:
        return {}
    if len(text.encode()) // _BYTES_PER_TOKEN < CACHED_FROM_TOKENS:
        return {"system": text}
    return {"system": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]}


def _text(body: Mapping[str, Any]) -> str | None:
    blocks = [as_dict(block) for block in as_list(body.get("content"))]
    texts = [as_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    found = [text for text in texts if text is not None]
    return "".join(found) if found else None
