"""One HTTP request as it came in, and one reply with the manner in which it goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

import orjson

Manner = Literal["whole", "reset", "cut", "hang", "slow"]
Headers = tuple[tuple[str, str], ...]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    529: "Overloaded",
}


@dataclass(slots=True)
class Request:
    """One request. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    keep_alive: bool = True

    def params(self) -> dict[str, str]:
        """The query string's parameters."""
        return dict(parse_qsl(self.query))


@dataclass(slots=True)
class Reply:
    """One reply: what is sent, after how long, in which manner, and whom to tell when it has gone."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: str = "application/json"
    delay_s: float = 0.0
    manner: Manner = "whole"
    seconds: float = 0.0
    settle: Callable[[bool], None] | None = None

    def head(self, *, keep_alive: bool) -> bytes:
        """The status line and headers."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}\r\nserver: tierq-simulator",
            f"content-type: {self.content_type}\r\ncontent-length: {len(self.body)}",
        ]
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        if not keep_alive:
            lines.append("connection: close")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def json_reply(status: int, value: object, headers: Headers = ()) -> Reply:
    """A reply whose body is the value as JSON."""
    return Reply(status, orjson.dumps(value), headers)
