"""Anthropic's Messages."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tierq_simulator.messages import Headers, Request
from tierq_simulator.wire.base import (
    Allowance,
    Ask,
    Completion,
    Problem,
    body_of,
    count_input,
    invalid,
    seconds_text,
    text_of,
)
from tierq_simulator.wire.strict import anthropic_objection

_FIELD_NAMES = (
    "cache_control container context_management inference_geo max_tokens mcp_servers messages metadata model "
    "output_config service_tier speed stop_sequences stream system temperature thinking tool_choice tools "
    "top_k top_p"
)
_FIELDS = frozenset(_FIELD_NAMES.split())
_VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
_NO_SAMPLING = "2026-10-21"

# kind: status, type, message
_ERRORS: dict[str, tuple[int, str, str]] = {
    "rate_limited": (429, "rate_limit_error", "This request would exceed your organization's rate limit of {scarce}."),
    "quota": (402, "billing_error", "Your organization's credit or spend limit is used up."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "server_error": (500, "api_error", "Internal server error"),
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "no_key": (401, "authentication_error", "x-api-key header is required"),
    "too_long": (400, "invalid_request_error", "prompt is too long: {used} tokens > {limit} maximum"),
    "not_found": (404, "not_found_error", "model: {model}"),
    "invalid_request": (400, "invalid_request_error", "The request is invalid."),
    "refused": (400, "invalid_request_error", "Output blocked by content filtering policy"),
}
_STATUS_TYPES = {
    400: "invalid_request_error",
    402: "billing_error",
    403: "permission_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}
_CREDIT = "Your credit balance is too low to access the Anthropic API."


class Anthropic:
    """Anthropic's wire format."""

    name = "anthropic"

    def key(self, request: Request) -> str | None:
        """``x-api-key``, or the bearer token of the later versions."""
        bearer = request.headers.get("authorization", "")
        return request.headers.get("x-api-key") or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else None)

    def read(self, request: Request) -> Ask:
        """What is asked, by the rules of the version the request names."""
        body = body_of(request)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise invalid("model: Field required")
        _check(body, request.headers.get("anthropic-version"), model)
        schema, schema_size = _schema(body, model)
        system = text_of(body.get("system"))
        said = _messages(body, model)
        total, prefix = count_input(system, [text for _, text in said], schema_size)
        users = [text for role, text in said if role == "user"]
        return Ask(model, system, users, schema, total, prefix, body["max_tokens"], _cache_asked(body))

    def answer(self, ask: Ask, completion: Completion, request_id: str) -> dict[str, Any]:
        """A ``message``. Input tokens exclude those read from or written to the cache."""
        usage = completion.usage
        silent = completion.finish in ("refused", "refused_prompt", "empty")
        reasons = {"length": "max_tokens", "refused": "refusal", "refused_prompt": "refusal"}
        return {
            "id": f"msg_{request_id[4:]}",
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": [] if silent else [{"type": "text", "text": completion.text}],
            "stop_reason": reasons.get(completion.finish, "end_turn"),
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.input - usage.cached - usage.cache_write,
                "cache_creation_input_tokens": usage.cache_write,
                "cache_read_input_tokens": usage.cached,
                "output_tokens": usage.output,
                "service_tier": "standard",
            },
        }

    def error(self, problem: Problem, request_id: str) -> tuple[int, dict[str, Any], Headers]:
        """``{"type": "error", "error": {type, message}, "request_id"}``."""
        status, kind, message = _ERRORS[problem.kind]
        if problem.kind == "quota" and problem.status == 400:
            kind, message = "invalid_request_error", _CREDIT
        elif problem.status is not None:
            kind = _STATUS_TYPES.get(problem.status, kind)
        used, limit = problem.tokens
        shown = problem.message or message.format(model=problem.model, scarce=problem.scarce, used=used, limit=limit)
        headers: Headers = ()
        if problem.retry_after_s is not None:
            headers = (("retry-after", seconds_text(problem.retry_after_s)),)
        body = {"type": "error", "error": {"type": kind, "message": shown}, "request_id": request_id}
        return problem.status or status, body, headers

    def headers(self, request_id: str, allowance: Allowance | None) -> Headers:
        """The request id and, where there is a quota, its state."""
        found = [("request-id", request_id)]
        for name, state in (
            () if allowance is None else (("requests", allowance.requests), ("tokens", allowance.tokens))
        ):
            if state is not None:
                limit, left, reset = state
                at = datetime.now(UTC) + timedelta(seconds=math.ceil(reset))
                found.append((f"anthropic-ratelimit-{name}-limit", str(limit)))
                found.append((f"anthropic-ratelimit-{name}-remaining", str(left)))
                found.append((f"anthropic-ratelimit-{name}-reset", at.strftime("%Y-%m-%dT%H:%M:%SZ")))
        return tuple(found)

    def models(self, names: list[str]) -> dict[str, Any]:
        """A list of models."""
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names
        ]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"data": data, "has_more": False, **ends}


def _check(body: dict[str, Any], version: str | None, model: str) -> None:
    if version is None:
        raise invalid("anthropic-version: header is required", model=model)
    if version not in _VERSIONS:
        raise invalid(f'anthropic-version: "{version}" is not a valid version', model=model)
    unknown = [name for name in body if name not in _FIELDS]
    if unknown:
        raise invalid(f"{unknown[0]}: Extra inputs are not permitted", model=model)
    for name in ("temperature", "top_p", "top_k"):
        if version >= _NO_SAMPLING and name in body:
            raise invalid(f"{name}: sampling parameters are not supported by this API version", model=model)
    _check_max_tokens(body, model)
    if body.get("stream"):
        raise invalid("stream: the simulator does not stream", model=model)


def _check_max_tokens(body: dict[str, Any], model: str) -> None:
    if "max_tokens" not in body:
        raise invalid("max_tokens: Field required", model=model)
    limit = body["max_tokens"]
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise invalid("max_tokens: Input should be a valid integer", model=model)
    if limit < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1", model=model)


def _schema(body: dict[str, Any], model: str) -> tuple[dict[str, Any] | None, int]:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if wanted is None:
        return None, 0
    schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise invalid("output_config.format.schema: Field required", model=model)
    written = orjson.dumps(schema)
    objection = anthropic_objection(written)
    if objection:
        raise invalid(f"output_config.format.schema: {objection}", model=model)
    return schema, len(written)


def _messages(body: dict[str, Any], model: str) -> list[tuple[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("messages: Field required", model=model)
    if not messages:
        raise invalid("messages: at least one message is required", model=model)
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise invalid(f"messages.{position}.role: Input should be 'user' or 'assistant'", model=model)
    return [(message["role"], text_of(message.get("content"))) for message in messages]


def _cache_asked(body: dict[str, Any]) -> bool:
    system = body.get("system")
    marked = isinstance(system, list) and any(isinstance(part, dict) and part.get("cache_control") for part in system)
    return marked or bool(body.get("cache_control"))
