"""Servers of a test's own that speak as badly as they like: each is a coroutine over a raw socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = {"choices": [{"message": {"content": '{"label":"bug"}'}, "finish_reason": "stop"}], "usage": {}}


@asynccontextmanager
async def serving(behaviour: Behaviour, **options: Any) -> AsyncIterator[str]:
    """The address of a server on this event loop, for as long as the block runs."""

    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the other side hung up, as it should
        finally:
            writer.close()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0)
        for one in talks:
            one.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0.01)  # closed transports say goodbye on the loop's next turns


@contextmanager
def serving_in_thread(behaviour: Behaviour) -> Iterator[str]:
    """The same on a loop of its own, for tests of whole processes."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def main() -> None:
        async with serving(behaviour) as url:
            found.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """All of a request: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head + await reader.readexactly(length)


def saying(*parts: bytes) -> Behaviour:
    """Reads the request, says this, and hangs up."""

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return behaviour


def saying_for_ever(head: bytes, part: bytes, pause_s: float = 0.0) -> Behaviour:
    """Reads the request, says the head, and then the same part without an end."""

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(head)
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behaviour


def response(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An HTTP answer; ``length`` where its Content-Length is to lie."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(body: Any = ANSWER, *headers: str) -> bytes:
    """What a well-behaved provider says."""
    return response(json.dumps(body).encode(), "content-type: application/json", *headers)
