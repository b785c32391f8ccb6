"""A TCP proxy of our own, to break the network between two parts: reset, refuse, swallow everything, delay."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Address = tuple[str, int] | Path
"""A host and port, or a Unix socket."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: close sends RST instead of FIN."""

_PART = 65_536


@dataclass(eq=False)
class Pair:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    is_waiting: bool = False
    """The client has spoken last: it waits for an answer."""
    pumps: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Listens on a port of this host and forwards to one address, until it is told to do worse."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._pairs: set[Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._delay_s = 0.0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # The faults. Each can be called from any thread, at any time.

    def reset(self) -> int:
        """Ends every connection with an RST on both sides; how many there were."""
        return int(self._call(self._reset))

    def refuse(self) -> None:
        """From now on, new connections are reset as soon as they are there, and so is every other."""
        self._refuses = True
        self.reset()

    def black_hole(self) -> None:
        """Accepts, and says nothing: no byte goes through, on connections that are there and on new ones."""
        self._call(self._flows.clear)

    def delay(self, seconds: float) -> None:
        """Every part takes this much longer, each way."""
        self._delay_s = seconds

    def heal(self) -> None:
        """Forwards again. What was swallowed arrives late, as it does after a network partition."""
        self._refuses, self._delay_s = False, 0.0
        self._call(self._flows.set)

    def waiting(self) -> int:
        """How many clients have asked and have no answer yet."""
        return int(self._call(lambda: sum(pair.is_waiting for pair in self._pairs)))

    # What runs on the loop.

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = Pair(writer)
        self._pairs.add(pair)
        if self._refuses:
            self._end(pair)
            return
        try:
            server, pair.server = await self._connect()
        except OSError:
            self._end(pair)  # the target is down: so are its connections
            return
        pair.pumps = [
            asyncio.ensure_future(self._pump(pair, reader, pair.server, is_waiting=True)),
            asyncio.ensure_future(self._pump(pair, server, writer, is_waiting=False)),
        ]
        await asyncio.wait(pair.pumps, return_when=asyncio.FIRST_COMPLETED)
        self._hang_up(pair)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(str(self._target))
        return await asyncio.open_connection(*self._target)

    async def _pump(
        self, pair: Pair, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_waiting: bool
    ) -> None:
        try:
            while part := await source.read(_PART):
                pair.is_waiting = is_waiting
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flows.wait()
                sink.write(part)
                await sink.drain()
        except OSError:
            return  # either side hung up

    def _reset(self) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        return len(pairs)

    def _hang_up(self, pair: Pair) -> None:
        """One side ended the connection: the other hears it after all that was said."""
        self._pairs.discard(pair)
        for pump in pair.pumps:
            pump.cancel()
        for writer in filter(None, (pair.client, pair.server)):
            writer.close()

    def _end(self, pair: Pair) -> None:
        """An RST each way."""
        for writer in filter(None, (pair.client, pair.server)):
            connection = writer.get_extra_info("socket")
            if connection.family != socket.AF_UNIX and not writer.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._hang_up(pair)

    async def _close(self) -> None:
        self._listener.close()
        self._flows.set()
        self._reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=5) if others else None

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _call(self, work: Callable[[], Any]) -> Any:
        """Runs a function on the loop's thread."""

        async def call() -> Any:
            return work()

        return self._do(call())
