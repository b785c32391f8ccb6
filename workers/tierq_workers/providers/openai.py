"""OpenAI's Chat Completions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import orjson

from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.prompts import Prompt
from tierq_workers.providers.base import Adapter, Completion, ProviderError, Request, Response
from tierq_workers.providers.classes import failed_inside, refused, success_body, unreadable
from tierq_workers.providers.logprobs import read_openai
from tierq_workers.providers.schemas import for_openai
from tierq_workers.providers.wire import (
    as_dict,
    as_list,
    as_text,
    bound,
    count,
    endpoint,
    first,
    headers,
    request_id,
)

_PATH = "/chat/completions"
_AUTH = {"authorization": "Bearer {key}"}
_NOT_OURS = frozenset({"stream", "stream_options", "n"})
"""Parameters that would change the shape or the price of an answer; they are not sent."""
_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64
"""`json_schema.name` may hold these characters and be this long, by OpenAI's API reference."""


class OpenAIAdapter(Adapter):
    """Chat Completions at ``{base_url}/chat/completions`` with a strict `json_schema`; answers are not stored there."""

    bounds: ClassVar[tuple[str, ...]] = ("max_completion_tokens", "max_tokens")
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"store": False})

    def request(self, prompt: Prompt, deployment: Deployment, *, key: str | None, attempt_id: str) -> Request:
        params = {name: value for name, value in deployment.params.items() if name not in _NOT_OURS}
        body = {
            **self.defaults,
            **params,
            "model": deployment.model,
            "messages": messages(prompt),
            **bound(params, self.bounds, prompt.max_output_tokens),
            **_logprobs(prompt),
            **response_format(prompt, deployment),
        }
        sent = headers(deployment, _AUTH, key=key, attempt_id=attempt_id)
        return Request(endpoint(deployment, _PATH), sent, orjson.dumps(body))

    def read(self, response: Response) -> Completion | ProviderError:
        body = success_body(response)
        if isinstance(body, ProviderError):
            return body
        choice = first(body.get("choices"))
        usage = read_usage(as_dict(body.get("usage")))
        named = request_id(response.headers, body.get("id"))
        if choice.get("error"):
            return failed_inside(response, choice, usage)
        message = as_dict(choice.get("message"))
        ended = choice.get("finish_reason")
        if message.get("refusal") or ended == "content_filter":
            why = "content_filter" if ended == "content_filter" else "refusal"
            return refused(response, why, usage=usage, request_id=named)
        text = _content(message)
        if text is None and ended != "length":
            return unreadable(response, "the answer holds no message with text", usage=usage, request_id=named)
        tokens = read_openai(as_dict(choice.get("logprobs")).get("content"))
        return Completion(
            text or "",
            usage,
            truncated=ended == "length",
            request_id=named,
            response_id=request_id({}, body.get("id")),
            tokens=tokens,
        )


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The constant part as the system message, then the turns."""
    opening = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return opening + [{"role": turn.role, "content": turn.text} for turn in prompt.turns]


def _logprobs(prompt: Prompt) -> dict[str, Any]:
    if prompt.logprobs is None:
        return {}
    return {"logprobs": True, **({"top_logprobs": prompt.logprobs} if prompt.logprobs else {})}


def response_format(prompt: Prompt, deployment: Deployment) -> dict[str, Any]:
    """The body's `response_format`, or nothing where only the prompt tells the schema."""
    if prompt.schema is None or deployment.structured_output == "prompt":
        return {}
    fitted = for_openai(prompt.schema)
    if fitted is None:
        return {}
    name = _NAME.sub("_", prompt.schema_name)[:_LONGEST_NAME] or "answer"
    schema = {"name": name, "strict": fitted.strict, "schema": orjson.Fragment(fitted.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """OpenAI's counts, which include the cached and the reasoning tokens.

    Read beside them, for compatible servers: DeepSeek's and LiteLLM's names for cached tokens, and a total that is
    more than its parts, which is how Gemini's and xAI's compatible endpoints count reasoning outside the output.
    """
    given = as_dict(usage.get("prompt_tokens_details"))
    made = as_dict(usage.get("completion_tokens_details"))
    prompt = count(usage.get("prompt_tokens"))
    cached = (given.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cache_read_input_tokens"))
    written = (given.get("cache_write_tokens"), usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=prompt,
        cached_tokens=max(map(count, cached)),
        cache_write_tokens=max(map(count, written)),
        output_tokens=max(count(usage.get("completion_tokens")), count(usage.get("total_tokens")) - prompt),
        reasoning_tokens=count(made.get("reasoning_tokens")),
    )


def _content(message: Mapping[str, Any]) -> str | None:
    """The text of a message; some compatible servers send it in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [as_dict(part) for part in as_list(content)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    found = [text for text in map(as_text, texts) if text is not None]
    return "".join(found) if found else None
