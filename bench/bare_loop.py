"""Yardstick (a): a bare asyncio loop over httpx on the aiohttp transport. No queue, no rows, no retries.

    python -m bench.bare_loop BASE_URL [--requests 10000] [--concurrency 200] [--straight]

Prints one JSON object. ``--straight`` sends `httpx.Request`s to the transport, without httpx's client layer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from bench.workload import PlainRequests, texts

_HEADERS = {"authorization": "Bearer bench", "content-type": "application/json"}
_TIMEOUT = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": None}
_WARM_UP = 500

Send = Callable[[bytes], Awaitable[bytes]]


def main() -> None:
    options = _options()
    print(json.dumps(uvloop.run(measure(options.base_url, options.requests, options.concurrency, options.straight))))


async def measure(base_url: str, requests: int, concurrency: int, straight: bool) -> dict[str, float]:
    """Requests a second, and CPU a request."""
    transport = AiohttpTransport(client=_session)
    async with httpx.AsyncClient(transport=transport, headers=_HEADERS, timeout=60.0) as client:
        url = f"{base_url}/v1/chat/completions"
        send = _straight(transport, url) if straight else _through_client(client, url)
        await _drain(send, _WARM_UP, concurrency)
        began, used = time.perf_counter(), _cpu_s()
        await _drain(send, requests, concurrency)
        seconds = time.perf_counter() - began
        return {"rate": requests / seconds, "cpu_ms": (_cpu_s() - used) / requests * 1000}


async def _drain(send: Send, requests: int, concurrency: int) -> None:
    plain, waiting = PlainRequests(), texts(requests)
    await asyncio.gather(*(_worker(send, plain, waiting) for _ in range(concurrency)))


async def _worker(send: Send, plain: PlainRequests, waiting: Iterator[str]) -> None:
    for text in waiting:
        plain.label(await send(plain.body(text)))


def _through_client(client: httpx.AsyncClient, url: str) -> Send:
    async def send(body: bytes) -> bytes:
        answer = await client.post(url, content=body)
        return answer.raise_for_status().content

    return send


def _straight(transport: AiohttpTransport, url: str) -> Send:
    async def send(body: bytes) -> bytes:
        request = httpx.Request("POST", url, headers=_HEADERS, content=body, extensions={"timeout": _TIMEOUT})
        answer = await transport.handle_async_request(request)
        content = await answer.aread()
        if answer.status_code != 200:
            raise SystemExit(f"the simulator answered {answer.status_code}")
        return content

    return send


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--straight", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
