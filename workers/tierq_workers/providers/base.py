"""What an adapter is: two pure functions between TierQ's values and one provider's wire format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.outcomes import ErrorClass
from tierq_shared.prompts import Prompt
from tierq_workers.providers.quotes import without_prompt, without_secrets

ATTEMPT_HEADER = "x-client-request-id"
"""Carries the attempt id to the provider. OpenAI documents it for the caller's own id; the others ignore it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP POST, ready to be sent. Its headers hold the key, so they never show in a repr."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, read to its end. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    asked: Request | None = field(default=None, repr=False)
    """The request that it answers: nothing of it may come back in a provider's message."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, as UTF-8 (which may be part of a character), with its log-probability (natural, ≤ 0)."""

    text: bytes = field(repr=False)
    logprob: float
    others: tuple[tuple[bytes, float], ...] = field(default=(), repr=False)
    """What else could have stood in its place, likeliest first, each with its log-probability."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered. ``truncated``: it was cut off at its output bound."""

    text: str = field(repr=False)
    usage: Usage
    truncated: bool = False
    request_id: str | None = None
    response_id: str | None = None
    """The answer's own id, where the request's is another. For traces; the ledger keeps the request's."""
    tokens: tuple[Token, ...] | None = field(default=None, repr=False)
    """The text's tokens where log-probabilities were asked for and came whole; else None."""


@dataclass(frozen=True, slots=True)
class ProviderError:
    """Why a call gave no completion. The message is the provider's own, shortened, without the key and the prompt."""

    error_class: ErrorClass
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None
    request_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    """What the call was charged all the same (a refusal is)."""
    sent: bool = True
    """False where the request never left: nothing can have been charged."""


class Adapter(ABC):
    """One provider's wire format. No I/O, no clock, no state."""

    @abstractmethod
    def request(self, prompt: Prompt, deployment: Deployment, *, key: str | None, attempt_id: str) -> Request:
        """The HTTP request that puts this prompt to this deployment.

        ``prompt.logprobs`` is asked for where the format has a word for it.
        """

    def parse(self, response: Response) -> Completion | ProviderError:
        """What the answer means. Never raises: a body that makes no sense is a ProviderError."""
        found = self.read(response)
        return found if response.asked is None else _without_quotes(found, response.asked)

    @abstractmethod
    def read(self, response: Response) -> Completion | ProviderError:
        """What the answer says in this format, the provider's messages still in its own words."""


def _without_quotes(found: Completion | ProviderError, asked: Request) -> Completion | ProviderError:
    found = replace(found, request_id=_without_key(found.request_id, asked))
    if isinstance(found, ProviderError):
        message = without_prompt(without_secrets(found.message, asked.headers), asked.body)
        return replace(found, message=message)
    return replace(found, response_id=_without_key(found.response_id, asked))


def _without_key(id_: str | None, asked: Request) -> str | None:
    """An id as it came; None where it quotes the key."""
    return None if id_ and without_secrets(id_, asked.headers) != id_ else id_
