"""Hostile answers over real sockets: each becomes a provider error of its class, never an exception or full memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import pytest
from sqlalchemy import select

from conftest import SiteMaker
from support.hostile import (
    ANSWER,
    Behaviour,
    answer,
    request_of,
    response,
    saying,
    saying_for_ever,
    serving,
    serving_in_thread,
)
from tierq import Classify, Client
from tierq_shared.deployments import Deployment
from tierq_shared.outcomes import ErrorClass
from tierq_shared.prompts import Prompt, Turn
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts
from tierq_workers.providers import adapter_for
from tierq_workers.providers.base import Completion, ProviderError, Request
from tierq_workers.transport import Transport

KEY = "sk-planted-key-0123456789"
MAX_BYTES = 1_000_000
WHOLE = json.dumps(ANSWER).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
GZIP = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"


async def call(base_url: str, *, timeout_s: float = 5.0, total_s: float | None = None) -> Completion | ProviderError:
    async with Transport(max_response_bytes=MAX_BYTES) as transport:
        found = await transport.send(request_to(base_url), timeout_s=timeout_s, total_s=total_s)
    return found if isinstance(found, ProviderError) else adapter_for("openai").parse(found)


def request_to(base_url: str) -> Request:
    deployment = Deployment(name="d", provider="openai", model="m", base_url=base_url)
    prompt = Prompt("", (Turn("user", "hello"),), None, "answer", 64)
    return adapter_for("openai").request(prompt, deployment, key=KEY, attempt_id="a")


async def outcome(behaviour: Behaviour, **limits: Any) -> Completion | ProviderError:
    async with serving(behaviour) as url:
        return await call(url, **limits)


def failure(behaviour: Behaviour, **limits: Any) -> ProviderError:
    found = asyncio.run(outcome(behaviour, **limits))
    assert isinstance(found, ProviderError), found
    assert KEY not in found.message
    return found


def bomb(megabytes: int, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    packed = [packer.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join([*packed, packer.flush()])


@contextmanager
def flat_memory(most_mb: float) -> Iterator[None]:
    """What is allocated inside the block never stands above this at once."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
        assert tracemalloc.get_traced_memory()[1] / 1e6 < most_mb
        assert grown_mb < most_mb
    finally:
        tracemalloc.stop()


def test_a_well_behaved_server_is_understood() -> None:
    assert isinstance(asyncio.run(outcome(saying(answer()))), Completion)


ENDLESS = {
    "gigabytes that are announced": saying_for_ever(
        b"HTTP/1.1 200 OK\r\ncontent-length: 8000000000\r\n\r\n", b"x" * 65536
    ),
    "a stream without an end": saying_for_ever(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"x" * 65536),
    "chunks without an end": saying_for_ever(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "one chunk without an end": saying_for_ever(CHUNKED + b"ffffffffff\r\n", b"x" * 65536),
    "a gzip bomb": saying(response(bomb(300), "content-encoding: gzip")),
    "a deflate bomb": saying(response(zlib.compress(bytes(100_000_000)), "content-encoding: deflate")),
    "a bomb in a bomb": saying(response(gzip.compress(bomb(300)), "content-encoding: gzip, gzip")),
    "a gzip stream without an end": saying_for_ever(GZIP + b"connection: close\r\n\r\n", bomb(1, 0)[:65536]),
}


@pytest.mark.parametrize("behaviour", ENDLESS.values(), ids=ENDLESS)
def test_more_than_is_read_is_invalid_output_in_flat_memory(behaviour: Behaviour) -> None:
    with flat_memory(most_mb=40):
        found = failure(behaviour)
    assert found.error_class == ErrorClass.INVALID_OUTPUT


BAD_ANSWERS = {
    "broken gzip": saying(response(b"\x1f\x8b not gzip at all", "content-encoding: gzip")),
    "gzip that is none": saying(response(WHOLE, "content-encoding: gzip")),
    "an encoding nobody knows": saying(response(b"\x00\x01\x02", "content-encoding: nonsense")),
    "UTF-16": saying(response(json.dumps(ANSWER).encode("utf-16"), "content-type: application/json; charset=utf-8")),
    "Latin-1": saying(response(json.dumps({"choices": "é"}, ensure_ascii=False).encode("latin-1"))),
    "a charset nobody knows": saying(response(b"\xff\xfe\xfd", "content-type: application/json; charset=nonsense")),
    "a byte order mark": saying(response(b"\xef\xbb\xbf" + WHOLE[:-1])),
    "NaN": saying(response(b'{"choices":[{"message":{"content":NaN}}]}')),
    "Infinity": saying(response(b'{"choices":[{"message":{"content":-Infinity}}]}')),
    "a number beyond all": saying(response(b'{"choices":' + b"9" * 900_000 + b"}")),
    "deep nesting": saying(response(b"[" * 900_000)),
    "deep nesting that is closed": saying(response(b'{"a":' * 2_000 + b"1" + b"}" * 2_000)),
    "more values than anybody reads": saying(response(b"[" + b"[]," * 300_000 + b"[]]")),
    "a web page": saying(response(b"<html><body>Welcome</body></html>", "content-type: text/html")),
    "nothing": saying(response(b"")),
    "a list": saying(response(b"[1]")),
    "a JSON null": saying(response(b"null")),
    "an answer without a message": saying(answer({"choices": [{}]})),
    "a message of numbers": saying(answer({"choices": [{"message": {"content": 7}}]})),
}


@pytest.mark.parametrize("behaviour", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_is_invalid_output(behaviour: Behaviour) -> None:
    assert failure(behaviour).error_class == ErrorClass.INVALID_OUTPUT


async def before_the_request(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def in_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.transport.abort()


async def without_a_word(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await request_of(reader)


BROKEN = {
    "hung up at once": before_the_request,
    "reset in the request": in_the_request,
    "hung up without a word": without_a_word,
    "hung up in the status line": saying(b"HTTP/1.1 2"),
    "hung up in the headers": saying(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "hung up before the body": saying(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"),
    "hung up in the body": saying(response(WHOLE, length=len(WHOLE) + 50)),
    "hung up in a chunk": saying(CHUNKED + b"ff\r\nabc"),
    "hung up between chunks": saying(CHUNKED + b"3\r\nabc\r\n"),
    "a chunk's size that is none": saying(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"),
    "a chunk's size that is negative": saying(CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": saying(CHUNKED + b"2\r\nabcdef\r\n0\r\n\r\n"),
    "a length that is none": saying(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n" + WHOLE),
    "a negative length": saying(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n" + WHOLE),
    "two lengths": saying(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 9\r\n\r\n" + WHOLE),
    "a huge header": saying(b"HTTP/1.1 200 OK\r\nx-big: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "a header without an end": saying_for_ever(b"HTTP/1.1 200 OK\r\nx-big: ", b"a" * 65536),
    "headers without an end": saying_for_ever(b"HTTP/1.1 200 OK\r\n", b"x-more: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000),
    "a status line without an end": saying_for_ever(b"HTTP/1.1 200 ", b"O" * 65536),
    "a header with a NUL": saying(b"HTTP/1.1 200 OK\r\nx-a: a\x00b\r\ncontent-length: 0\r\n\r\n"),
    "no HTTP": saying(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "HTTP/0.9": saying(WHOLE),
    "a status that is none": saying(b"HTTP/1.1 abc OK\r\n\r\n"),
    "a status of four digits": saying(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "another protocol": saying(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nxx"),
    "TLS on a plain port": saying(b"\x15\x03\x01\x00\x02\x02\x46"),
    "a redirect": saying(response(b"", "location: http://127.0.0.1:1/elsewhere", status="307 Temporary Redirect")),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN)
def test_a_connection_that_breaks_is_overloaded(behaviour: Behaviour) -> None:
    with flat_memory(most_mb=40):
        assert failure(behaviour, timeout_s=3.0).error_class == ErrorClass.OVERLOADED


SLOW = {
    "a byte at a time": saying_for_ever(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"x", 0.05),
    "a header's byte at a time": saying_for_ever(b"HTTP/1.1 200 OK\r\nx-slow: ", b"x", 0.05),
    "continue for ever": saying_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "early hints for ever": saying_for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", 0.05),
    "silence": saying_for_ever(b"", b"", 0.05),
}


@pytest.mark.parametrize("behaviour", SLOW.values(), ids=SLOW)
def test_a_trickle_is_given_up_when_its_time_is_over(behaviour: Behaviour) -> None:
    found = failure(behaviour, total_s=1.0)
    assert (found.error_class, found.sent) == (ErrorClass.OVERLOADED, True)


def test_a_length_that_is_too_short_is_no_answer() -> None:
    """The rest stands where the next answer should begin: aiohttp says so, if it has read that far by then."""
    found = failure(saying(response(WHOLE, length=20)))
    assert found.error_class in (ErrorClass.INVALID_OUTPUT, ErrorClass.OVERLOADED)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_is_understood(encoding: str) -> None:
    packed = gzip.compress(WHOLE) if encoding == "gzip" else zlib.compress(WHOLE)
    behaviour = saying(response(packed, f"content-encoding: {encoding}"))
    assert isinstance(asyncio.run(outcome(behaviour)), Completion)


def test_an_error_is_classed_by_its_status_where_its_body_is_hostile() -> None:
    found = failure(saying(response(bomb(10), "content-encoding: gzip", status="429 Too Many Requests")))
    assert (found.error_class, found.http_status) == (ErrorClass.RATE_LIMITED, 429)


def test_tls_to_a_plain_server_never_left() -> None:
    async def over_tls() -> Completion | ProviderError:
        async with serving(saying(answer())) as url:
            return await call(url.replace("http:", "https:"))

    found = asyncio.run(over_tls())
    assert isinstance(found, ProviderError)
    assert (found.error_class, found.sent) == (ErrorClass.OVERLOADED, False)


def test_a_redirect_is_not_followed_and_the_key_does_not_travel() -> None:
    heard: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    async def redirected(status: str) -> Completion | ProviderError:
        async with serving(elsewhere) as other:
            return await outcome(saying(response(b"", f"location: {other}/v1", status=status)))

    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
        found = asyncio.run(redirected(status))
        assert isinstance(found, ProviderError)
        assert found.error_class == ErrorClass.OVERLOADED
    assert heard == []


def test_a_cookie_is_not_sent_back() -> None:
    requests: list[bytes] = []

    async def marking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await request_of(reader))
            writer.write(answer(ANSWER, "set-cookie: who=you"))

    async def twice() -> None:
        async with serving(marking) as url, Transport(max_response_bytes=MAX_BYTES) as transport:
            for _ in range(2):
                await transport.send(request_to(url), timeout_s=5.0)

    asyncio.run(twice())
    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


def taking_turns(*behaviours: Behaviour) -> Behaviour:
    """Another behaviour for each connection."""
    turns = cycle(behaviours)

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(turns)(reader, writer)

    return behaviour


def test_a_worker_outlives_them_all(site_on: SiteMaker) -> None:
    """Each task ends well with another deployment or on the next tier, and the worker serves the ones that follow."""
    hostile = [*ENDLESS.values(), *BAD_ANSWERS.values(), *BROKEN.values()]
    site = site_on()
    with serving_in_thread(taking_turns(*hostile)) as url, Client(config=site.config) as client:
        honest = site.config.read_text()
        site.config.write_text(honest.replace(f"{site.simulator.url}/v1", url))
        workers = [site.start_worker("small"), site.start_worker("medium")]
        tasks = [Classify(f"My invoice {number} is wrong", ["billing", "bug"]) for number in range(2 * len(hostile))]
        outcomes = [client.submit(task).wait(timeout=60) for task in tasks]
        assert [outcome.error for outcome in outcomes if not outcome.ok] == []
        assert [worker.poll() for worker in workers] == [None, None]
    store = Store(site.database_url)
    with store.reading() as connection:
        calls = connection.execute(select(attempts.c.deployment, attempts.c.outcome)).all()
    store.close()
    # A connection that broke after the request leaves open whether it was served.
    assert {call.outcome for call in calls if call.deployment == "mini"} >= {"invalid_output", "unknown"}
    assert "failed inside the worker" not in site.logs()
