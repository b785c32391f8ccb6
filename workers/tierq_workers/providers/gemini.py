"""Google's Gemini API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.prompts import Prompt
from tierq_workers.providers.base import Adapter, Completion, ProviderError, Request, Response
from tierq_workers.providers.classes import refused, success_body, unreadable
from tierq_workers.providers.logprobs import read_gemini
from tierq_workers.providers.messages import shown
from tierq_workers.providers.schemas import for_gemini
from tierq_workers.providers.wire import as_dict, as_list, as_text, bound, count, endpoint, first, headers, request_id

VERSION = "v1"
"""The path's version unless the deployment names one, as google-genai 3 calls it; `gemini-*-latest` needs `v1beta`."""

_AUTH = {"x-goog-api-key": "{key}"}
_TOP_LEVEL = frozenset({"safetySettings", "cachedContent", "serviceTier", "tools", "toolConfig", "labels", "store"})
"""Parameters of the request itself; all others belong to its `generationConfig`."""
_NOT_OURS = frozenset({"candidateCount", "candidate_count"})
_ROLES = {"user": "user", "assistant": "model"}

_WHOLE = frozenset({None, "STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED"})
_REFUSALS = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"})
"""Finish reasons of the API's reference that mean a policy stopped the answer."""


class GeminiAdapter(Adapter):
    """`generateContent` at ``{base_url}/{version}/models/{model}`` with `responseJsonSchema`."""

    def request(self, prompt: Prompt, deployment: Deployment, *, key: str | None, attempt_id: str) -> Request:
        body = {
            **{name: value for name, value in deployment.params.items() if name in _TOP_LEVEL},
            "contents": [{"role": _ROLES[turn.role], "parts": [{"text": turn.text}]} for turn in prompt.turns],
            **({"systemInstruction": {"role": "user", "parts": [{"text": prompt.system}]}} if prompt.system else {}),
            "generationConfig": {**_config(prompt, deployment), **_logprobs(prompt), **_native(prompt, deployment)},
        }
        sent = headers(deployment, _AUTH, key=key, attempt_id=attempt_id)
        return Request(endpoint(deployment, _path(deployment)), sent, orjson.dumps(body))

    def read(self, response: Response) -> Completion | ProviderError:
        body = success_body(response)
        if isinstance(body, ProviderError):
            return body
        usage = read_usage(as_dict(body.get("usageMetadata")))
        named = request_id(response.headers, body.get("responseId"))
        candidate = first(body.get("candidates"))
        ended = as_text(candidate.get("finishReason"))
        blocked = as_text(as_dict(body.get("promptFeedback")).get("blockReason"))
        if ended in _REFUSALS or (blocked and not candidate):
            return refused(response, blocked or ended or "", usage=usage, request_id=named)
        text = _text(candidate)
        if ended not in _WHOLE or (text is None and ended != "MAX_TOKENS"):
            why = f"the answer holds no whole text (finishReason {shown(ended or 'none')[:80]})"
            return unreadable(response, why, usage=usage, request_id=named)
        tokens = read_gemini(candidate.get("logprobsResult"))
        return Completion(
            text or "",
            usage,
            truncated=ended == "MAX_TOKENS",
            request_id=named,
            response_id=request_id({}, body.get("responseId")),
            tokens=tokens,
        )


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Gemini's counts. Its candidates exclude the thoughts, and its prompt what tools brought: they are added."""
    given = count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount"))
    thoughts = count(usage.get("thoughtsTokenCount"))
    made = count(usage.get("candidatesTokenCount")) + thoughts
    return Usage(
        input_tokens=given,
        cached_tokens=count(usage.get("cachedContentTokenCount")),
        output_tokens=max(made, count(usage.get("totalTokenCount")) - given),
        reasoning_tokens=thoughts,
    )


def _path(deployment: Deployment) -> str:
    model = deployment.model if "/" in deployment.model else f"models/{deployment.model}"
    return f"/{deployment.api_version or VERSION}/{quote(model)}:generateContent"


def _config(prompt: Prompt, deployment: Deployment) -> dict[str, Any]:
    own = {**deployment.params, **as_dict(deployment.params.get("generationConfig"))}
    kept = {n: v for n, v in own.items() if n not in _TOP_LEVEL | _NOT_OURS | {"generationConfig"}}
    return {**kept, **bound(kept, ("maxOutputTokens", "max_output_tokens"), prompt.max_output_tokens)}


def _logprobs(prompt: Prompt) -> dict[str, Any]:
    if prompt.logprobs is None:
        return {}
    return {"responseLogprobs": True, **({"logprobs": prompt.logprobs} if prompt.logprobs else {})}


def _native(prompt: Prompt, deployment: Deployment) -> dict[str, Any]:
    """The schema mode; plain JSON mode for a schema that Gemini's has no words for."""
    if prompt.schema is None or deployment.structured_output == "prompt":
        return {}
    fitted = for_gemini(prompt.schema)
    schema = {} if fitted is None else {"responseJsonSchema": orjson.Fragment(fitted)}
    return {"responseMimeType": "application/json", **schema}


def _text(candidate: Mapping[str, Any]) -> str | None:
    parts = [as_dict(part) for part in as_list(as_dict(candidate.get("content")).get("parts"))]
    texts = [as_text(part.get("text")) for part in parts if not part.get("thought")]
    found = [text for text in texts if text is not None]
    return "".join(found) if found else None
