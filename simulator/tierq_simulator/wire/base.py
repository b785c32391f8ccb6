"""What every wire format gives and takes, in provider-neutral words."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

import orjson

from tierq_simulator.logprobs import Token
from tierq_simulator.messages import Headers, Request

MOST_LOGPROBS = 20
"""The likeliest tokens that a provider tells at each place, at the most: OpenAI's and Gemini's own bound."""

Finish = Literal["stop", "length", "refused", "refused_prompt", "empty"]


@dataclass(slots=True)
class Ask:
    """One request for an answer. ``users`` are the user's messages; ``cache_asked`` that the prefix be cached."""

    model: str
    system: str = field(repr=False)
    users: list[str] = field(repr=False)
    schema: dict[str, Any] | None = field(repr=False)
    input_tokens: int
    prefix_tokens: int
    max_tokens: int | None = None
    cache_asked: bool = False
    logprobs: int | None = None
    """How many likeliest tokens to tell at each place; None where no log-probabilities are asked for."""


@dataclass(slots=True)
class Usage:
    """Tokens of one answer. ``input`` includes the cached and the cache-written, ``output`` the reasoning ones."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Completion:
    """The answer to one request."""

    text: str = field(repr=False)
    finish: Finish
    usage: Usage
    tokens: list[Token] | None = field(default=None, repr=False)
    """With their log-probabilities, where they were asked for."""


@dataclass(slots=True)
class Allowance:
    """What a quota says: seconds to wait (0: admitted), what is scarce, and each limit's (limit, left, full in s)."""

    wait_s: float
    scarce: str
    requests: tuple[int, int, float] | None
    tokens: tuple[int, int, float] | None


@dataclass(slots=True)
class Problem:
    """What goes wrong, before a wire format gives it the provider's words. ``message`` replaces the usual one."""

    kind: str
    model: str = ""
    message: str = ""
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None
    scarce: str = "requests"
    tokens: tuple[int, int] = (0, 0)


class ProblemError(Exception):
    """The request is refused, for the reason the problem gives."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message or problem.kind)
        self.problem = problem


class Wire(Protocol):
    """One provider's wire format."""

    name: str

    def key(self, request: Request) -> str | None:
        """The key the request carries."""

    def read(self, request: Request) -> Ask:
        """What is asked; raises ProblemError where the provider would refuse it."""

    def answer(self, ask: Ask, completion: Completion, request_id: str) -> dict[str, Any]:
        """The body of an answer."""

    def error(self, problem: Problem, request_id: str) -> tuple[int, dict[str, Any], Headers]:
        """Status, body and headers of an error."""

    def headers(self, request_id: str, allowance: Allowance | None) -> Headers:
        """The headers every reply of this provider carries."""

    def models(self, names: list[str]) -> dict[str, Any]:
        """The body of a list of models."""


def invalid(message: str, param: str | None = None, model: str = "") -> ProblemError:
    """A request the provider calls invalid."""
    return ProblemError(Problem("invalid_request", model, message, param))


def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise invalid("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    return body


def text_of(content: object) -> str:
    """The text of a message's content, given as a string or as a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def estimate_tokens(text: str) -> int:
    """About as many tokens as a real tokenizer would count: four bytes each."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return (size + 3) // 4


@lru_cache(maxsize=1024)
def prefix_tokens(system: str) -> int:
    """The tokens of the constant part, which many requests share."""
    return estimate_tokens(system)


def count_input(system: str, texts: list[str], schema_size: int) -> tuple[int, int]:
    """The tokens of the whole prompt, and of its constant part."""
    prefix = prefix_tokens(system) + schema_size // 4
    return prefix + sum(map(estimate_tokens, texts)) + 4 * (len(texts) + 1), prefix


def seconds_text(seconds: float) -> str:
    """Seconds in the shortest form: 1, 0.25."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
