"""OpenAI's Chat Completions, and what speaks like it under any prefix."""

from __future__ import annotations

import math
from typing import Any

import orjson

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
from tierq_simulator.wire.strict import openai_objection

# A fixed birthday for made-up objects: answers stay the same from run to run.
CREATED = 1_767_225_600

_FIELD_NAMES = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
    "metadata modalities model n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options"
)
_FIELDS = frozenset(_FIELD_NAMES.split())
_SYSTEM_ROLES = ("system", "developer")

# kind: status, type, code, message
_ERRORS: dict[str, tuple[int, str, str | None, str]] = {
    "rate_limited": (429, "requests", "rate_limit_exceeded", "Rate limit reached for {model} on {scarce} per min."),
    "quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "overloaded": (503, "server_error", None, "The engine is currently overloaded, please try again later."),
    "server_error": (500, "server_error", None, "The server had an error while processing your request."),
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "no_key": (401, "invalid_request_error", None, "You didn't provide an API key."),
    "too_long": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is {limit} tokens. However, your messages resulted in {used} tokens.",
    ),
    "not_found": (404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    "invalid_request": (400, "invalid_request_error", None, "The request is invalid."),
    "refused": (
        400,
        "invalid_request_error",
        "invalid_prompt",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
    ),
}
_PARAMS = {"too_long": "messages", "not_found": "model"}


class OpenAI:
    """OpenAI's wire format."""

    name = "openai"

    def key(self, request: Request) -> str | None:
        """A bearer token, or Azure's ``api-key``."""
        bearer = request.headers.get("authorization", "")
        return bearer[7:].strip() if bearer[:7].lower() == "bearer " else request.headers.get("api-key")

    def read(self, request: Request) -> Ask:
        """What is asked; unknown parameters are refused on the provider's own path only."""
        body = body_of(request)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise invalid("you must provide a model parameter")
        if request.path == "/v1/chat/completions":
            _check_fields(body, model)
        schema, schema_size = _schema(body, model)
        system, users, texts = _messages(body, model)
        total, prefix = count_input(system, texts, schema_size)
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise invalid("Invalid 'max_completion_tokens': integer above 0 expected.", "max_completion_tokens", model)
        return Ask(model, system, users, schema, total, prefix, limit, logprobs=_logprobs(body, model))

    def answer(self, ask: Ask, completion: Completion, request_id: str) -> dict[str, Any]:
        """A ``chat.completion``."""
        usage = completion.usage
        refused = completion.finish in ("refused", "refused_prompt")
        message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None, "annotations": []}
        if refused:
            message.update(content=None, refusal="I'm sorry, I can't help with that.")
        reason = "length" if completion.finish == "length" else "stop"
        told = _told(completion, ask.logprobs or 0)
        choice = {"index": 0, "message": message, "logprobs": told, "finish_reason": reason}
        return {
            "id": f"chatcmpl-{request_id[4:]}",
            "object": "chat.completion",
            "created": CREATED,
            "model": ask.model,
            "choices": [] if completion.finish == "empty" else [choice],
            "usage": {
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": usage.reasoning,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": "fp_tierq_simulator",
        }

    def error(self, problem: Problem, request_id: str) -> tuple[int, dict[str, Any], Headers]:  # noqa: ARG002  # Wire's
        """``{"error": {message, type, param, code}}``."""
        status, kind, code, message = _ERRORS[problem.kind]
        used, limit = problem.tokens
        shown = problem.message or message.format(model=problem.model, scarce=problem.scarce, used=used, limit=limit)
        if problem.kind == "rate_limited":
            kind = problem.scarce
        param = problem.param or _PARAMS.get(problem.kind)
        error = {"message": shown, "type": kind, "param": param, "code": code}
        return problem.status or status, {"error": error}, _waiting(problem.retry_after_s)

    def headers(self, request_id: str, allowance: Allowance | None) -> Headers:
        """The request id and, where there is a quota, its state."""
        found = [("x-request-id", request_id), ("openai-version", "2020-10-01")]
        for name, state in (
            () if allowance is None else (("requests", allowance.requests), ("tokens", allowance.tokens))
        ):
            if state is not None:
                limit, left, reset = state
                found.append((f"x-ratelimit-limit-{name}", str(limit)))
                found.append((f"x-ratelimit-remaining-{name}", str(left)))
                found.append((f"x-ratelimit-reset-{name}", f"{seconds_text(reset)}s"))
        return tuple(found)

    def models(self, names: list[str]) -> dict[str, Any]:
        """A list of models."""
        data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "tierq-simulator"} for name in names]
        return {"object": "list", "data": data}


def _waiting(seconds: float | None) -> Headers:
    if seconds is None:
        return ()
    return (("retry-after", str(math.ceil(seconds))), ("retry-after-ms", str(math.ceil(seconds * 1000))))


def _check_fields(body: dict[str, Any], model: str) -> None:
    unknown = [name for name in body if name not in _FIELDS]
    if unknown:
        raise invalid(f"Unrecognized request argument supplied: {unknown[0]}", unknown[0], model)
    if body.get("stream"):
        raise invalid("The simulator does not stream.", "stream", model)


def _logprobs(body: dict[str, Any], model: str) -> int | None:
    asked, most = body.get("logprobs"), body.get("top_logprobs")
    if most is not None and not asked:
        raise invalid("'top_logprobs' is only allowed when 'logprobs' is set to true.", "top_logprobs", model)
    if most is not None and not (isinstance(most, int) and 0 <= most <= MOST_LOGPROBS):
        raise invalid(f"Invalid 'top_logprobs': 0 to {MOST_LOGPROBS} expected.", "top_logprobs", model)
    return (most or 0) if asked else None


def _told(completion: Completion, most: int) -> dict[str, Any] | None:
    if completion.tokens is None or completion.finish not in ("stop", "length"):
        return None
    content = [
        {**_token(one.text, one.logprob), "top_logprobs": [_token(*other) for other in one.top[:most]]}
        for one in completion.tokens
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "surrogatepass"))}


def _schema(body: dict[str, Any], model: str) -> tuple[dict[str, Any] | None, int]:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None, 0
    if wanted["type"] == "json_object":
        return {"type": "object"}, 0
    spec = wanted.get("json_schema")
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise invalid("Missing required parameter: 'response_format.json_schema.name'.", "response_format", model)
    schema = spec.get("schema")
    if not isinstance(schema, dict):
        raise invalid("Missing required parameter: 'response_format.json_schema.schema'.", "response_format", model)
    written = orjson.dumps(schema)
    objection = openai_objection(written) if spec.get("strict") else None
    if objection:
        message = f"Invalid schema for response_format '{spec['name']}': {objection}"
        raise ProblemError(Problem("invalid_request", model, message, "response_format"))
    return schema, len(written)


def _messages(body: dict[str, Any], model: str) -> tuple[str, list[str], list[str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("Missing required parameter: 'messages'.", "messages", model)
    if not all(isinstance(message, dict) for message in messages):
        raise invalid("Invalid type for 'messages': objects expected.", "messages", model)
    said = [(message.get("role"), text_of(message.get("content"))) for message in messages]
    system = "\n".join(text for role, text in said if role in _SYSTEM_ROLES)
    texts = [text for role, text in said if role not in _SYSTEM_ROLES]
    return system, [text for role, text in said if role == "user"], texts
