"""A deployment: one way to reach one model."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Provider = Literal["openai", "openai-compatible", "anthropic", "gemini"]

DEFAULT_BASE_URLS: dict[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
"""Where each provider's own API lives, as its official SDK has it. An OpenAI-compatible server has no default."""


class PriceOverlay(BaseModel):
    """The user's own prices for a deployment, in USD per million tokens. They win over the price list."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class Deployment(BaseModel):
    """One way to reach one model: provider, model, base URL, key, region and parameters.

    The key itself is never here, only the name of the environment variable that holds it, or names its file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = ""
    provider: Provider
    model: str = Field(min_length=1)
    base_url: str | None = None
    allow_plain_http: bool = False
    """Lets prompts and key go over plain HTTP to another machine than this one, as inside a cluster."""
    key_env: str | None = None
    region: str | None = None
    limit: str | None = None
    """The `[limits]` table whose quota it draws on; deployments that name the same one share it."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Sent as they are in the provider's request body, such as `reasoning_effort` or `temperature`."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent with the request. A value may hold a secret, so none is ever shown."""
    api_version: str | None = None
    """Anthropic: the `anthropic-version` header. Gemini: the path's version, `v1` by default."""
    structured_output: Literal["native", "prompt"] = "native"
    """`native` asks for the provider's own JSON schema mode; `prompt` only says the schema in the prompt."""
    context_window: int | None = Field(default=None, gt=0)
    """Tokens of input and output together; from the price list where not given."""
    max_output_tokens: int = Field(default=1024, gt=0)
    """The bound on the output where the task's spec names none."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds of silence after which a call is given up."""
    price: PriceOverlay | None = None


def in_order(chain: Iterable[Deployment], order: Sequence[str]) -> list[Deployment]:
    """A chain, those first that the order names. A name that this chain does not have is nobody's."""
    place = {name: index for index, name in enumerate(order)}
    return sorted(chain, key=lambda one: place.get(one.name, len(place)))


def is_loopback(base_url: str) -> bool:
    """Whether an address is this machine itself: what is sent there crosses no network."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def fault_of_base_url(base_url: str, *, allow_plain_http: bool) -> str | None:
    """Why nothing may be sent to an address, with the mend; None where it may."""
    try:
        url = urlsplit(base_url)
        is_whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        return "this is no http(s) URL: write it as https://host/v1"
    if "@" in url.netloc:
        return "a password has no place here: name its variable in key_env"
    if url.scheme == "http" and not allow_plain_http and not is_loopback(base_url):
        return (
            "key and prompts would cross the network unencrypted: write https://, or, where the network is your own, "
            "set allow_plain_http = true beside it"
        )
    return None
