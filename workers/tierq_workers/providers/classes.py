"""From an HTTP answer to the error class that decides what happens next.

The table is the same for every provider: names and phrases are told apart well enough that none needs its own, and
OpenAI-compatible servers pass on other providers' errors as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tierq_shared.money import Usage
from tierq_shared.outcomes import ErrorClass
from tierq_workers.providers.base import ProviderError, Response
from tierq_workers.providers.messages import shown
from tierq_workers.providers.wire import as_dict, as_list, as_text, first, loads, request_id

_LONGEST_WAIT_S = 31 * 86_400.0
"""No provider's limit runs longer than a month; a wait beyond it is a mistake."""

_LONGEST_READ = 4_000
"""Characters of a message in which phrases are looked for."""

_BY_NAME: tuple[tuple[ErrorClass, frozenset[str]], ...] = (
    (
        ErrorClass.QUOTA_EXHAUSTED,
        frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"}),
    ),
    (
        ErrorClass.TOO_LONG,
        frozenset(
            {"context_length_exceeded", "exceed_context_size_error", "request_too_large", "string_above_max_length"}
        ),
    ),
    (
        ErrorClass.REFUSED,
        frozenset(
            {
                "content_policy_violation",
                "content_filter",
                "responsibleaipolicyviolation",  # Azure's innererror
                "invalid_prompt",  # OpenAI's reasoning models, for a flagged prompt
                "flagged_input",  # OpenRouter's moderation, which is a 403
            }
        ),
    ),
    # FAILED_PRECONDITION is Gemini's for a project without billing in a country without a free tier.
    (ErrorClass.AUTH, frozenset({"api_key_invalid", "invalid_api_key", "failed_precondition"})),
)
"""Error codes, types, statuses and reasons, in lower case, that decide whatever the HTTP status is."""

_BY_PHRASE: tuple[tuple[ErrorClass, re.Pattern[str]], ...] = (
    (
        ErrorClass.TOO_LONG,
        re.compile(
            r"prompt is too long|maximum context length|context_length_exceeded|contextwindowexceeded"
            r"|exceed context limit|exceeds? the (?:available |model's )?(?:maximum )?context"
            r"|input token count.{0,80}exceeds|longer than the maximum model length"
            # A 429 that no wait can cure: one request above the limit of a whole minute.
            r"|request too large for",
            re.IGNORECASE,
        ),
    ),
    (
        ErrorClass.REFUSED,
        re.compile(
            r"content filtering policy|content management policy|flagged as potentially violating"
            r"|content_policy_violation|contentpolicyviolation",
            re.IGNORECASE,
        ),
    ),
    (
        ErrorClass.QUOTA_EXHAUSTED,
        # Not "exceeded your current quota": Gemini says that of its limits per minute as well.
        re.compile(
            r"credit balance is too low|insufficient_quota|insufficient (?:credits?|balance|funds)"
            r"|reached your specified .{0,20}usage limits|spend(?:ing)?[ -](?:limit|cap)|billing hard limit",
            re.IGNORECASE,
        ),
    ),
    (ErrorClass.AUTH, re.compile(r"user location is not supported", re.IGNORECASE)),
)
"""Phrases of messages, for what providers give no code of its own. Read in answers with a 4xx status only."""

_BY_STATUS: dict[int, ErrorClass] = {
    401: ErrorClass.AUTH,
    402: ErrorClass.QUOTA_EXHAUSTED,
    403: ErrorClass.AUTH,
    408: ErrorClass.OVERLOADED,
    409: ErrorClass.OVERLOADED,
    413: ErrorClass.TOO_LONG,
    425: ErrorClass.OVERLOADED,
    429: ErrorClass.RATE_LIMITED,
    498: ErrorClass.OVERLOADED,  # Groq's "flex tier capacity exceeded"
    499: ErrorClass.OVERLOADED,
    501: ErrorClass.INVALID_REQUEST,  # llama.cpp, for what it was not started for
}

_STATUS_OF_NAME: dict[str, int] = {
    "api_error": 500,
    "server_error": 500,
    "internal": 500,
    "overloaded_error": 529,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "not_found_error": 404,
}
"""The status that belongs to an error which came inside a success and names none."""
_ANSWERS = frozenset({"choices", "content", "candidates"})
"""What an answer holds, by provider; a body that has it is none the less an answer for an `error` beside it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error body says, whichever provider's shape it has."""

    names: frozenset[str] = frozenset()
    message: str = field(default="", repr=False)
    quota_ids: tuple[str, ...] = ()
    retry_delay_s: float | None = None
    request_id: str | None = None


def success_body(response: Response) -> dict[str, Any] | ProviderError:
    """The body of an answer that succeeded, as an object; else why the call failed."""
    body = loads(response.body)
    if not 200 <= response.status < 300:
        return _failed(response, body, response.status)
    if isinstance(body, dict):
        return body if _ANSWERS & body.keys() or not body.get("error") else failed_inside(response, body)
    kind = shown(response.headers.get("content-type", "no content type")[:80])
    return unreadable(response, f"the answer is no JSON object ({kind}, {len(response.body)} bytes)")


def failed_inside(response: Response, holder: dict[str, Any], usage: Usage | None = None) -> ProviderError:
    """An error that came inside a success, as gateways send it that had begun to answer; `holder` has it as `error`."""
    return replace(_failed(response, holder, _status_inside(holder)), usage=usage or Usage())


def unreadable(
    response: Response, message: str, *, usage: Usage | None = None, request_id: str | None = None
) -> ProviderError:
    """A success whose body is not what it should be."""
    return _error(ErrorClass.INVALID_OUTPUT, message, response, usage, request_id)


def refused(response: Response, why: str, *, usage: Usage, request_id: str | None) -> ProviderError:
    """The model or the provider's policy declined. `why` is a reason code: a refusal's words may quote the prompt."""
    return _error(ErrorClass.REFUSED, f"refused to answer ({shown(why)})", response, usage, request_id)


def too_long(response: Response, why: str, *, usage: Usage, request_id: str | None) -> ProviderError:
    """The answer ran into the end of the model's context window."""
    return _error(ErrorClass.TOO_LONG, why, response, usage, request_id)


def error_class(status: int, fault: Fault, headers: Mapping[str, str]) -> ErrorClass:
    """The class of an error: by its names, then its phrases, then its status."""
    for named, names in _BY_NAME:
        if fault.names & names:
            return named
    if 400 <= status < 500:
        for phrased, pattern in _BY_PHRASE:
            if pattern.search(fault.message):
                return phrased
    if any("perday" in quota.lower() for quota in fault.quota_ids):
        return ErrorClass.QUOTA_EXHAUSTED
    found = _of_status(status)
    retried = found is ErrorClass.INVALID_REQUEST and headers.get("x-should-retry", "").strip().lower() == "true"
    return ErrorClass.OVERLOADED if retried else found


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: `retry-after-ms`, else `retry-after` in seconds or as a date.

    A date is measured against the answer's own `Date`, so that neither clock needs to be right.
    """
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return _wait(millis / 1000)
    spelled = headers.get("retry-after")
    seconds = _number(spelled)
    if seconds is not None:
        return _wait(seconds)
    then, now = _date(spelled), _date(headers.get("date"))
    return _wait((then - now).total_seconds()) if then and now else None


def fault_of(body: Any) -> Fault:
    """Reads an error body: OpenAI's, Anthropic's, Gemini's (also in a list), vLLM's flat one, FastAPI's, Ollama's."""
    top = first(body) if isinstance(body, list) else as_dict(body)
    error = top.get("error")
    inner = as_dict(error) or top
    details = [as_dict(detail) for detail in as_list(inner.get("details"))]
    named = [inner.get(name) for name in ("type", "code", "status")]
    named += [as_dict(inner.get("innererror")).get("code"), *(detail.get("reason") for detail in details)]
    named += [name for name in as_dict(inner.get("metadata")) if name == "flagged_input"]
    return Fault(
        names=frozenset(name.lower() for name in named if isinstance(name, str)),
        message=_message(error, inner, top)[:_LONGEST_READ],
        quota_ids=tuple(_quota_ids(details)),
        retry_delay_s=next(
            (d for d in (_delay(detail.get("retryDelay")) for detail in details) if d is not None), None
        ),
        request_id=as_text(top.get("request_id")),
    )


def _failed(response: Response, body: Any, status: int | None) -> ProviderError:
    fault = fault_of(body)
    if status is None:
        return unreadable(response, f"an error inside a success: {shown(fault.message)}", request_id=fault.request_id)
    told = retry_after_s(response.headers)
    return ProviderError(
        error_class(status, fault, response.headers),
        shown(fault.message or _plain(response, body)) or f"HTTP {status} without a message",
        http_status=response.status,
        retry_after_s=fault.retry_delay_s if told is None else told,
        request_id=request_id(response.headers, fault.request_id),
    )


def _error(kind: ErrorClass, message: str, response: Response, usage: Usage | None, named: str | None) -> ProviderError:
    return ProviderError(
        kind,
        message,
        http_status=response.status,
        request_id=request_id(response.headers, named),
        usage=usage or Usage(),
    )


def _of_status(status: int) -> ErrorClass:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # A redirect or a status nobody knows is a server that is not the one we mean: the next deployment may be.
    return ErrorClass.INVALID_REQUEST if 400 <= status < 500 else ErrorClass.OVERLOADED


def _status_inside(body: dict[str, Any]) -> int | None:
    code = as_dict(body["error"]).get("code")
    number = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3 else code
    if isinstance(number, int) and 400 <= number < 600:
        return number
    names = fault_of(body).names
    if any(names & known for _, known in _BY_NAME):
        return 400
    return next((_STATUS_OF_NAME[name] for name in sorted(names) if name in _STATUS_OF_NAME), None)


def _message(error: object, inner: dict[str, Any], top: dict[str, Any]) -> str:
    listed = [as_text(as_dict(entry).get("msg")) for entry in as_list(top.get("detail"))]
    told = (error, inner.get("message"), top.get("message"), top.get("detail"), "; ".join(m for m in listed if m))
    return next((text for text in told if isinstance(text, str) and text), "")


def _plain(response: Response, body: Any) -> str:
    """A body of plain text, such as a proxy's one line. Markup and broken JSON may repeat the request: never those."""
    if body is not None:
        return ""
    text = response.body[:1_000].decode("utf-8", "replace").strip()
    return "" if text[:1] in ("<", "{", "[", "") else text


def _quota_ids(details: list[dict[str, Any]]) -> list[str]:
    violations = [as_dict(violation) for detail in details for violation in as_list(detail.get("violations"))]
    return [quota for quota in (violation.get("quotaId") for violation in violations) if isinstance(quota, str)]


def _delay(value: object) -> float | None:
    """A protobuf Duration as JSON has it, such as ``34.07s``."""
    seconds = _number(value.strip().removesuffix("s")) if isinstance(value, str) else None
    return None if seconds is None else _wait(seconds)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _wait(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST_WAIT_S)


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date
