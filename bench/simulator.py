"""How many replies a second the simulator gives on one core.

    python bench/simulator.py [--requests 40000] [--connections 64] [--server-core 0] [--load-core 1]

The server and the load each run on a core of their own, on loopback. Every request is a classification of about 2 KB
with a JSON schema; the inputs differ; latency is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import orjson
import uvloop

MOST_REQUESTS = 500_000
LABELS = {
    "billing": "Charges, refunds, invoices and payment methods.",
    "technical": "Errors, crashes and anything that does not work.",
    "shipping": "Where a parcel is, delays, damaged deliveries.",
    "account": "Signing in, passwords, profile and access.",
    "other": "Whatever fits nowhere else.",
}
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": list(LABELS)},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label", "confidence"],
    "additionalProperties": False,
}
TEXT = "I was charged twice for my order and the parcel never arrived please help the app shows an error today"


def main() -> None:
    """Measure and print the median of the rounds."""
    options = _options()
    server = subprocess.Popen(
        ["taskset", "-c", str(options.server_core), sys.executable, "-m", "tierq_simulator", "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        os.sched_setaffinity(0, {options.load_core})
        _report(options, port, server.pid)
    finally:
        server.terminate()
        server.communicate()


def _report(options: argparse.Namespace, port: int, pid: int) -> None:
    requests = _requests(options.requests)
    size = sum(map(len, requests)) // len(requests)
    rates, costs = [], []
    for _ in range(options.rounds):
        spent, started = _cpu_seconds(pid), time.perf_counter()
        uvloop.run(_load(port, requests, options.connections))
        rates.append(len(requests) / (time.perf_counter() - started))
        costs.append((_cpu_seconds(pid) - spent) / len(requests) * 1e6)
    if options.json:
        print(orjson.dumps({"rates": rates, "cpu_us": costs}).decode())
        return
    shown = " ".join(f"{rate:,.0f}" for rate in rates)
    print(f"{statistics.median(rates):,.0f} replies/s (rounds: {shown})")
    print(f"{len(requests):,} requests of {size:,} bytes a round, {options.connections} connections")
    print(
        f"server: {statistics.median(costs):.0f} µs of CPU a reply, so {1e6 / statistics.median(costs):,.0f}/s at most"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    options.requests = min(options.requests, MOST_REQUESTS)
    return options


def _requests(count: int) -> list[bytes]:
    dice = random.Random(1)
    system = "Classify the ticket.\n" + "\n".join(f"- {label}: {meaning}" for label, meaning in LABELS.items())
    return [_request(system, " ".join(dice.choices(TEXT.split(), k=200)), number) for number in range(count)]


def _request(system: str, text: str, number: int) -> bytes:
    wanted = {"type": "json_schema", "json_schema": {"name": "classify", "strict": True, "schema": SCHEMA}}
    turns = [{"role": "system", "content": system}, {"role": "user", "content": f"<text>\n{text}\n</text>"}]
    body = orjson.dumps({"model": "gpt-sim", "messages": turns, "response_format": wanted, "max_completion_tokens": 64})
    headers = {
        "host": "sim",
        "authorization": "Bearer k",
        "content-type": "application/json",
        "accept": "*/*",
        "user-agent": "bench",
        "x-client-request-id": f"bench-{number}",
        "content-length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body


class _Client(asyncio.Protocol):
    """Sends the next request when the last one's reply is complete."""

    def __init__(self, requests: list[bytes], left: list[int], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._left = left
        self._done = done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._requests:
            self._transport.write(self._requests.pop())  # type: ignore[attr-defined]  # uvloop's class is its own

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self._buffer.index(b"content-length: ") + 16
        if len(self._buffer) < head + 4 + int(self._buffer[start : self._buffer.index(b"\r", start)]):
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self._buffer.decode())
        self._buffer = b""
        self._left[0] -= 1
        if self._left[0] == 0:
            self._done.set_result(None)
        self._next()


async def _load(port: int, requests: list[bytes], connections: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    waiting, left = list(requests), [len(requests)]
    made = [
        await loop.create_connection(lambda: _Client(waiting, left, done), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.wait_for(done, 300)
    for transport, _ in made:
        transport.close()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
