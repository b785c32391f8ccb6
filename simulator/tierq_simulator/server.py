"""The HTTP side: connections, parsing, keep-alive and pipelining, and the manners in which replies leave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools

from tierq_simulator.desk import Desk
from tierq_simulator.messages import Reply, Request, json_reply
from tierq_simulator.served import ServedLog
from tierq_simulator.settings import Settings

MAX_BODY = 64 << 20
_QUEUE_LIMIT = 64
_SLOW_PIECES = 20


class Connection(asyncio.Protocol):
    """One client connection. Its requests are answered one after the other, in the order they came."""

    def __init__(self, handle: Callable[[Request], Reply], open_connections: set[Connection]) -> None:
        self._handle = handle
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Request] = deque()
        self._current: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = True
        self._blocked = False
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """The client is gone. A reply still on its way is produced nevertheless, as a provider would."""
        self._open.discard(self)
        self._transport = None
        self.closed.set_result(None)
        self._queue.clear()
        reply = self._current
        if reply is not None and reply.manner in ("hang", "slow"):
            if self._timer is not None:
                self._timer.cancel()
            self._settle(reply, delivered=False)
            self._finish()

    def pause_writing(self) -> None:
        """The client reads slowly: answer no further requests for now."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._blocked = False
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Parse what came in and answer what is complete."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(400, "This is not an HTTP/1.1 request.")
            return
        if len(self._queue) > _QUEUE_LIMIT and self._transport is not None:
            self._transport.pause_reading()
        self._advance()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """The next piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The body is next; some clients wait to be asked for it."""
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """The next piece of the body."""
        self._size += len(body)
        if self._size <= MAX_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._size > MAX_BODY:
            self._refuse(413, f"The body exceeds {MAX_BODY} bytes.")
            return
        path, _, query = self._url.decode("latin-1").partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        self._queue.append(Request(method, path, query, self._headers, body, self._parser.should_keep_alive()))

    def _advance(self) -> None:
        while self._current is None and self._queue and not self._blocked and self._transport is not None:
            request = self._queue.popleft()
            self._keep_alive = request.keep_alive
            self._start(self._handle(request))
            if len(self._queue) <= _QUEUE_LIMIT and self._transport is not None:
                self._transport.resume_reading()

    def _start(self, reply: Reply) -> None:
        self._current = reply
        if reply.delay_s > 0:
            self._timer = self._loop.call_later(reply.delay_s, self._send_later, reply)
        else:
            self._send(reply)

    def _send_later(self, reply: Reply) -> None:
        self._timer = None
        self._send(reply)
        self._advance()

    def _send(self, reply: Reply) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            self._settle(reply, delivered=False)
            self._finish()
        elif reply.manner == "whole":
            # Told first: whoever reads the reply finds it counted, however soon this process ends.
            self._settle(reply, delivered=True)
            transport.write(reply.head(keep_alive=self._keep_alive) + reply.body)
            self._finish()
        elif reply.manner == "reset":
            self._settle(reply, delivered=False)
            _reset(transport)
            self._finish()
        elif reply.manner == "cut":
            self._settle(reply, delivered=False)
            transport.write(reply.head(keep_alive=False) + reply.body[: len(reply.body) // 2])
            transport.close()
            self._finish()
        elif reply.manner == "slow":
            transport.write(reply.head(keep_alive=self._keep_alive))
            self._dribble(reply, 0)

    def _dribble(self, reply: Reply, start: int) -> None:
        if self._transport is None or self._current is not reply:
            return
        end = start + max(1, -(-len(reply.body) // _SLOW_PIECES))
        last = end >= len(reply.body)
        if last:
            self._settle(reply, delivered=True)
        self._transport.write(reply.body[start:end])
        if last:
            self._finish()
            self._advance()
        else:
            self._timer = self._loop.call_later(reply.seconds / _SLOW_PIECES, self._dribble, reply, end)

    @staticmethod
    def _settle(reply: Reply, *, delivered: bool) -> None:
        if reply.settle is not None:
            reply.settle(delivered)

    def _finish(self) -> None:
        self._current = None
        if not self._keep_alive and self._transport is not None:
            self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        if self._transport is not None:
            reply = json_reply(status, {"error": {"message": message}})
            self._transport.write(reply.head(keep_alive=False) + reply.body)
            self._transport.close()

    def drop(self) -> None:
        """End the connection and whatever is still due on it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()


def _reset(transport: asyncio.Transport) -> None:
    """End the connection with an RST rather than a FIN."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Server:
    """A listening simulator. ``await server.close()`` ends it, or use it as an async context manager."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.url = ""
        self.port = 0
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Bind and accept."""
        loop = asyncio.get_running_loop()
        make = lambda: Connection(self.desk.handle, self._connections)  # noqa: E731  # a factory, used once
        self._listener = await loop.create_server(make, host, port, backlog=4096)
        self.port = self._listener.sockets[0].getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._listener is not None:
            self._listener.close()
        open_now = list(self._connections)
        for connection in open_now:
            connection.drop()
        await asyncio.gather(*(connection.closed for connection in open_now))
        if self._listener is not None:
            await self._listener.wait_closed()
        self.desk.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def start(
    config: dict[str, Any] | Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    served_log: str | None = None,
) -> Server:
    """Start a simulator in the running loop; port 0 takes a free one."""
    settings = config if isinstance(config, Settings) else Settings.parse(config or {})
    server = Server(Desk(settings, ServedLog(served_log)))
    await server.listen(host, port)
    return server
