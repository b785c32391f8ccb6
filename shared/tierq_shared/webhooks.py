"""Webhooks as they are configured: who is told of what, and the secret to sign with (Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tierq_shared import environment
from tierq_shared.addresses import shown_url
from tierq_shared.errors import ConfigurationError

if TYPE_CHECKING:
    from tierq_shared.environment import Secret
    from tierq_shared.settings import Webhook

TEST_EVENT = "tierq.test"
"""The type of the event that `tierq webhooks test` sends; none that can be subscribed to."""

_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
"""How long Standard Webhooks has a secret be."""

_MEND = f"make one with: echo {_PREFIX}$(openssl rand -base64 32)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A configured webhook, ready to be told."""

    name: str
    """Its URL without what may be secret in it; no two have the same."""
    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    events: frozenset[str]
    tag: str | None
    min_tasks: int
    allow_private: bool

    def wants_batch(self, tags: Mapping[str, str]) -> bool:
        """Whether it is told of batches with these tags."""
        name, _, value = (self.tag or "").partition("=")
        return self.tag is None or tags.get(name) == value


def read_endpoints(webhooks: Sequence[Webhook], env: Mapping[str, str] = os.environ) -> list[Endpoint]:
    """The configured webhooks with their secrets.

    Raises:
        ConfigurationError: a secret is missing or malformed; the message names the key and the variable.
    """
    return [
        Endpoint(
            name=shown_url(one.url),
            url=one.url,
            secret=_key_of(one, number, env),
            events=frozenset(one.events),
            tag=one.tag,
            min_tasks=one.min_tasks,
            allow_private=one.allow_private,
        )
        for number, one in enumerate(webhooks)
    ]


def check_secret(webhook: Webhook, number: int, env: Mapping[str, str] = os.environ) -> Secret:
    """The secret of the webhook with this number in the configuration, with where it came from.

    Raises:
        ConfigurationError: it is missing or malformed.
    """
    where = f"webhooks.{number}.secret_env"
    secret = environment.read(webhook.secret_env, env)
    if secret is None:
        raise ConfigurationError(f"{where}: {webhook.secret_env} is not set; {_MEND}")
    key = _decoded(secret.value)
    if key is None:
        raise ConfigurationError(f"{where}: {secret.source} holds no {_PREFIX} and base64; {_MEND}")
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ConfigurationError(
            f"{where}: the secret from {secret.source} is {len(key)} bytes long, not {_LEAST_BYTES} to {_MOST_BYTES}; "
            f"{_MEND}"
        )
    return secret


def headers(message_id: str, timestamp: int, body: bytes, secret: bytes) -> dict[str, str]:
    """The headers that go with a body: id, time in whole seconds since 1970, and signature."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(message_id, timestamp, body, secret),
    }


def signature(message_id: str, timestamp: int, body: bytes, secret: bytes) -> str:
    """`v1,` and the HMAC-SHA256 over `id.timestamp.body` as base64."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


def _key_of(webhook: Webhook, number: int, env: Mapping[str, str]) -> bytes:
    return _decoded(check_secret(webhook, number, env).value) or b""


def _decoded(secret: str) -> bytes | None:
    """The bytes of a secret as it is written; None where it is none."""
    if not secret.startswith(_PREFIX):
        return None
    written = secret.removeprefix(_PREFIX)
    try:
        return base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
