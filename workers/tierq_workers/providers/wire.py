"""What every adapter needs of HTTP and JSON: addresses, headers, and reading a stranger's body without trusting it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from tierq_shared.checks import printable
from tierq_shared.deployments import DEFAULT_BASE_URLS, Deployment
from tierq_workers.providers.base import ATTEMPT_HEADER

KEY_PLACE = "{key}"
"""Stands for the key in a deployment's own headers, as in ``headers = { api-key = "{key}" }`` for Azure."""

_MOST_TOKENS = 2**31 - 1
"""A count above this is no count; it would not fit a column of the ledger either."""
_LONGEST_ID = 200
_MOST_VALUES = 200_000
"""Reading is done on the event loop: 4 MB of `[],[],…` took it 2 s, this many take 0.2. Text's commas count as well."""


def endpoint(deployment: Deployment, path: str) -> str:
    """The address of `path` under the deployment's base URL, whose query (such as Azure's `api-version`) stays.

    A base URL that already ends in the first part of the path, or in all of it, does not get it twice.
    """
    base = urlsplit(deployment.base_url or DEFAULT_BASE_URLS.get(deployment.provider, ""))
    stem = base.path.rstrip("/")
    first = "/" + path.split("/")[1]
    if stem.endswith(path):
        stem = stem.removesuffix(path)
    elif stem.endswith(first):
        stem = stem.removesuffix(first)
    return urlunsplit((base.scheme, base.netloc, stem + path, base.query, ""))


def headers(deployment: Deployment, auth: Mapping[str, str], *, key: str | None, attempt_id: str) -> dict[str, str]:
    """The request's headers: ours, then how the key travels, then the deployment's own, which win.

    `auth` names the provider's usual header with `KEY_PLACE` in its value. Where one of the deployment's own headers
    holds the place, the key travels there and nowhere else; without a key no header that needs one is sent.
    """
    own = {name.lower(): value for name, value in deployment.headers.items()}
    usual = {} if any(KEY_PLACE in value for value in own.values()) else auth
    merged = {
        "content-type": "application/json",
        "accept": "application/json",
        "user-agent": "tierq",
        ATTEMPT_HEADER: attempt_id,
        **usual,
        **own,
    }
    secret = (key or "").strip()
    return {n: v.replace(KEY_PLACE, secret) for n, v in merged.items() if secret or KEY_PLACE not in v}


def loads(body: bytes) -> Any:
    """The JSON value of a body; None where it is none (also for NaN, wrong charsets, and nesting beyond 1024)."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _MOST_VALUES:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def first(value: object) -> dict[str, Any]:
    """The first member of a list, as an object."""
    members = as_list(value)
    return as_dict(members[0]) if members else {}


def count(value: object) -> int:
    """A count of tokens. Whatever is not one (text, a negative, a fraction, a bool) counts as not sent."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return 0
    return int(value) if 0 <= value <= _MOST_TOKENS else 0


def request_id(headers: Mapping[str, str], *others: object) -> str | None:
    """The provider's own id of a call, for its support desk: from the headers, else the first text of `others`."""
    named = (headers.get("x-request-id"), headers.get("request-id"), *others)
    found = next((value for value in named if isinstance(value, str) and value), None)
    return printable(found[:_LONGEST_ID]) or None if found else None


def bound(params: Mapping[str, Any], names: tuple[str, ...], most: int) -> dict[str, int]:
    """The output bound, under the first of `names` that `params` uses, else the first of all.

    A deployment may set a lower bound than the task, never a higher one: the task's is what was reserved for it.
    """
    name = next((name for name in names if name in params), names[0])
    asked = params.get(name)
    return {name: min(asked, most) if isinstance(asked, int) and not isinstance(asked, bool) else most}
