"""Gemini's generateContent."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from tierq_simulator.chance import digest
from tierq_simulator.logprobs import Token
from tierq_simulator.messages import Headers, Request
from tierq_simulator.wire.base import (
    MOST_LOGPROBS,
    Allowance,
    Ask,
    Completion,
    Problem,
    ProblemError,
    body_of,
    count_input,
    invalid,
    seconds_text,
    text_of,
)

PATH = re.compile(r"/(v1|v1beta)/models/([^/:]+):generateContent")

_FIELD_NAMES = (
    "contents systemInstruction system_instruction generationConfig generation_config safetySettings safety_settings "
    "tools toolConfig tool_config cachedContent cached_content labels serviceTier store model"
)
_FIELDS = frozenset(_FIELD_NAMES.split())

# kind: status, google.rpc code, message
_ERRORS: dict[str, tuple[int, str, str]] = {
    "rate_limited": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
    "quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "server_error": (500, "INTERNAL", "An internal error has occurred."),
    "auth": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "no_key": (
        401,
        "UNAUTHENTICATED",
        "Request is missing required authentication credential. Expected an API key or an OAuth 2 access token.",
    ),
    "too_long": (
        400,
        "INVALID_ARGUMENT",
        "The input token count ({used}) exceeds the maximum number of tokens allowed ({limit}).",
    ),
    "not_found": (404, "NOT_FOUND", "models/{model} is not found for API version v1, or is not supported."),
    "invalid_request": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "refused": (400, "FAILED_PRECONDITION", "The request was blocked."),
}
_STATUS_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_VOCABULARY = 256_000
"""Ids of tokens are made up, below this."""

_METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"


class Gemini:
    """Gemini's wire format."""

    name = "gemini"

    def key(self, request: Request) -> str | None:
        """``x-goog-api-key``, or ``key`` in the query."""
        return request.headers.get("x-goog-api-key") or request.params().get("key")

    def read(self, request: Request) -> Ask:
        """What is asked; the model stands in the path."""
        found = PATH.fullmatch(request.path)
        version, model = (found[1], found[2]) if found else ("", "")
        if version == "v1" and model.endswith("-latest"):
            raise ProblemError(Problem("not_found", model))
        body = body_of(request)
        unknown = [name for name in body if name not in _FIELDS]
        if unknown:
            raise invalid(
                f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.', None, model
            )
        config = body.get("generationConfig") or body.get("generation_config") or {}
        schema, schema_size = _schema(config, model)
        system = text_of((body.get("systemInstruction") or body.get("system_instruction") or {}).get("parts"))
        said = _contents(body, model)
        total, prefix = count_input(system, [text for _, text in said], schema_size)
        users = [text for role, text in said if role == "user"]
        limit, logprobs = config.get("maxOutputTokens"), _logprobs(config, model)
        return Ask(model, system, users, schema, total, prefix, limit, logprobs=logprobs)

    def answer(self, ask: Ask, completion: Completion, request_id: str) -> dict[str, Any]:
        """A response. Thoughts are counted beside the candidates' tokens, not within them."""
        usage = completion.usage
        counts = {
            "promptTokenCount": usage.input,
            "candidatesTokenCount": usage.output - usage.reasoning,
            "totalTokenCount": usage.input + usage.output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
        }
        if usage.reasoning:
            counts["thoughtsTokenCount"] = usage.reasoning
        if usage.cached:
            counts["cachedContentTokenCount"] = usage.cached
        body: dict[str, Any] = {"usageMetadata": counts, "modelVersion": ask.model, "responseId": request_id[4:]}
        if completion.finish == "refused_prompt":
            return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **body}
        if completion.finish == "empty":
            return body
        return {"candidates": [_candidate(completion, ask.logprobs)], **body}

    def error(self, problem: Problem, request_id: str) -> tuple[int, dict[str, Any], Headers]:  # noqa: ARG002  # Wire's
        """``{"error": {code, message, status, details}}``; the wait stands in the details."""
        status, code, message = _ERRORS[problem.kind]
        if problem.status is not None and problem.status != status:
            status, code = problem.status, _STATUS_CODES.get(problem.status, code)
        used, limit = problem.tokens
        shown = problem.message or message.format(model=problem.model, used=used, limit=limit)
        error: dict[str, Any] = {"code": status, "message": shown, "status": code}
        details = _details(problem)
        if details:
            error["details"] = details
        return status, {"error": error}, ()

    def headers(self, request_id: str, allowance: Allowance | None) -> Headers:  # noqa: ARG002  # Wire's
        """Gemini says its request id in the body only, and nothing of the quota."""
        return (("vary", "Origin"),)

    def models(self, names: list[str]) -> dict[str, Any]:
        """A list of models."""
        methods = ["generateContent"]
        found = [{"name": f"models/{name}", "version": "001", "supportedGenerationMethods": methods} for name in names]
        return {"models": found}


def _candidate(completion: Completion, logprobs: int | None) -> dict[str, Any]:
    if completion.finish == "refused":
        return {"finishReason": "SAFETY", "index": 0, "safetyRatings": []}
    content = {"parts": [{"text": completion.text}], "role": "model"}
    reason = "MAX_TOKENS" if completion.finish == "length" else "STOP"
    return {"content": content, "finishReason": reason, "index": 0, **_told(completion.tokens or [], logprobs)}


def _logprobs(config: dict[str, Any], model: str) -> int | None:
    asked, most = config.get("responseLogprobs"), config.get("logprobs")
    if most is not None and not asked:
        raise invalid("logprobs is set, but responseLogprobs is not true.", None, model)
    if most is not None and not (isinstance(most, int) and 0 <= most <= MOST_LOGPROBS):
        raise invalid(f"logprobs must be in the range [0, {MOST_LOGPROBS}].", None, model)
    return (most or 0) if asked else None


def _told(tokens: list[Token], most: int | None) -> dict[str, Any]:
    if most is None or not tokens:
        return {}
    total = sum(one.logprob for one in tokens)
    result: dict[str, Any] = {
        "logProbabilitySum": total,
        "chosenCandidates": [_token(one.text, one.logprob) for one in tokens],
    }
    if most:
        result["topCandidates"] = [{"candidates": [_token(*other) for other in one.top[:most]]} for one in tokens]
    return {"avgLogprobs": total / len(tokens), "logprobsResult": result}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "tokenId": digest(0, text) % _VOCABULARY, "logProbability": logprob}


def _details(problem: Problem) -> list[dict[str, Any]]:
    if problem.kind == "auth":
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        return [{"@type": kind, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    if problem.kind not in ("rate_limited", "quota"):
        return []
    span = "PerDay" if problem.kind == "quota" else "PerMinute"
    violation = {"quotaMetric": _METRIC, "quotaId": f"GenerateRequests{span}PerProjectPerModel-FreeTier"}
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{**violation, "quotaValue": "10"}]}
    ]
    if problem.retry_after_s is not None:
        delay = f"{seconds_text(math.ceil(problem.retry_after_s * 1000) / 1000)}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return details


def _schema(config: dict[str, Any], model: str) -> tuple[dict[str, Any] | None, int]:
    schema = config.get("responseJsonSchema") or config.get("_responseJsonSchema")
    if schema is None and config.get("responseSchema") is not None:
        schema = plain_schema(config["responseSchema"])
    mime = config.get("responseMimeType")
    if schema is None:
        return ({"type": "object"}, 0) if mime == "application/json" else (None, 0)
    if mime != "application/json":
        raise invalid("A response schema needs response_mime_type application/json.", None, model)
    if not isinstance(schema, dict):
        raise invalid("generation_config.response_json_schema must be an object.", None, model)
    return schema, len(orjson.dumps(schema))


def plain_schema(node: Any) -> Any:
    """Gemini's own schema dialect (upper-case types, nullable) as JSON Schema."""
    if isinstance(node, list):
        return [plain_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: value if key == "enum" else plain_schema(value) for key, value in node.items()}
    kind = plain.get("type")
    if isinstance(kind, str):
        plain["type"] = [kind.lower(), "null"] if plain.pop("nullable", False) else kind.lower()
    return plain


def _contents(body: dict[str, Any], model: str) -> list[tuple[str, str]]:
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise invalid("contents is not specified", None, model)
    if not all(isinstance(content, dict) for content in contents):
        raise invalid("contents must be objects", None, model)
    return [(content.get("role", "user"), text_of(content.get("parts"))) for content in contents]
