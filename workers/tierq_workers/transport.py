"""Sends adapters' requests and reads the answers to their end; and posts webhooks. Alone imports httpx and aiohttp."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from tierq_shared.addresses import is_public
from tierq_shared.outcomes import ErrorClass
from tierq_workers.bodies import ACCEPTED, BadBodyError, Body
from tierq_workers.providers.base import ProviderError, Request, Response

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 15.0
"""Shorter than the providers' and load balancers' own, so that we close idle connections before they do."""

_TOTAL_TIMEOUTS = 10
"""A call may take ten times its silence timeout in all: a server that trickles bytes for ever is given up too."""


class Transport:
    """HTTP for one worker process, on one event loop.

    Requests go straight to the aiohttp transport: httpx's client layer above it (redirects, cookies, auth flows) is
    not used here and costs more than the transport; httpx's own connection pool is scanned for every request.
    """

    def __init__(self, *, max_response_bytes: int) -> None:
        self._max_bytes = max_response_bytes
        self._transport = AiohttpTransport(client=_session)

    async def send(
        self, request: Request, *, timeout_s: float, total_s: float | None = None
    ) -> Response | ProviderError:
        """The answer, or why there is none.

        ``timeout_s``: seconds of silence after which the call is given up; ``total_s``: of all of it.
        """
        try:
            message = _message(request, timeout_s)
            await message.aread()
            async with asyncio.timeout(min(timeout_s * _TOTAL_TIMEOUTS, total_s or math.inf)):
                answer = await self._transport.handle_async_request(message)
                return await self._read(answer, request)
        except TimeoutError:
            return _overloaded("the answer did not come to an end in time", sent=True)
        except httpx.TransportError as error:
            return _transport_error(error)
        except (aiohttp.ClientError, OSError, httpx.InvalidURL) as error:
            return _overloaded(f"{type(error).__name__}", sent=not _never_left(error))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()

    async def _read(self, answer: httpx.Response, asked: Request) -> Response | ProviderError:
        try:
            body = await self._body_of(answer)
        except BadBodyError as error:
            if answer.is_success:
                return ProviderError(ErrorClass.INVALID_OUTPUT, str(error), http_status=answer.status_code)
            body = b""  # the status says enough
        finally:
            await answer.aclose()
        return Response(answer.status_code, answer.headers, body, asked)

    async def _body_of(self, answer: httpx.Response) -> bytes:
        body = Body(answer.headers.get("content-encoding"), self._max_bytes)
        async for part in answer.aiter_raw():
            body.add(part)
        return body.whole()


def _message(request: Request, timeout_s: float) -> httpx.Request:
    timeout = {"connect": min(CONNECT_TIMEOUT_S, timeout_s), "read": timeout_s, "write": timeout_s, "pool": None}
    return httpx.Request(
        "POST",
        _url(request.url),
        headers=[
            (b"accept-encoding", ACCEPTED.encode()),
            *((name.encode(), value.encode()) for name, value in request.headers.items()),
        ],
        # A stream keeps httpx from preparing headers that aiohttp sets again (measured: a tenth of the worker's CPU).
        stream=httpx.ByteStream(request.body),
        extensions={"timeout": timeout},
    )


@lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _session() -> aiohttp.ClientSession:
    # The engine's slots bound the connections; a second bound here would only hide waiting from them.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _transport_error(error: httpx.TransportError) -> ProviderError:
    cause = error.__cause__ or error
    name = type(cause).__name__
    if isinstance(error, httpx.UnsupportedProtocol):
        return ProviderError(ErrorClass.INVALID_REQUEST, "the base_url is no http(s) URL", sent=False)
    if isinstance(error, httpx.TimeoutException) and isinstance(cause, TimeoutError):
        return _overloaded(f"no answer in time ({name})", sent=not _never_left(cause))
    return _overloaded(f"the connection failed ({name})", sent=not _never_left(cause))


def _never_left(cause: BaseException) -> bool:
    """Whether the request cannot have reached the provider. httpx's own classes do not say it: the transport maps a
    server that hung up after the request to `ConnectTimeout` as well."""
    return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)


def _overloaded(message: str, *, sent: bool) -> ProviderError:
    return ProviderError(ErrorClass.OVERLOADED, message, sent=sent)


POST_TIMEOUT_S = 15.0
_MOST_READ = 4_096
"""Bytes of an answer to a webhook that are read: nothing is learned from it but its status."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of a POST: a status, or why there is none."""

    status: int | None
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    """How it begins."""


class Poster:
    """POSTs to addresses that users name, on one event loop: no redirects, no proxies, no connection that is kept."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool) -> Posted:
        """What came of it, within `POST_TIMEOUT_S`. Unless allowed, no address is connected to that is not public."""
        try:
            async with (
                asyncio.timeout(POST_TIMEOUT_S),
                _post_session(allow_private=allow_private) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                read = await answer.content.read(_MOST_READ)
                return Posted(answer.status, headers=answer.headers, body=read)
        except TimeoutError:
            return Posted(None, f"no answer within {POST_TIMEOUT_S:g} s")
        except aiohttp.ClientConnectorCertificateError as error:
            return Posted(None, f"no connection: {error.certificate_error}")
        except aiohttp.ClientConnectorError as error:
            return Posted(None, f"no connection: {error.os_error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # their texts quote the URL
            return Posted(None, f"no answer ({type(error).__name__})")


def _post_session(*, allow_private: bool) -> aiohttp.ClientSession:
    # The very addresses that are connected to are looked at: a name that is looked up twice may answer otherwise.
    factory = None if allow_private else _public_socket
    connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False, socket_factory=factory)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, type_, protocol, _, address = info
    if not is_public(str(address[0])):
        raise PermissionError(f"{address[0]} is no public address; allow_private = true lets it be told")
    return socket.socket(family=family, type=type_, proto=protocol)
