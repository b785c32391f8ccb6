"""Deliveries: when a try is followed by another, what is recorded, and which addresses are never connected to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from support.waiting import eventually
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError
from tierq_shared.store import schema, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import webhooks as table
from tierq_shared.store.webhook_events import Happening
from tierq_shared.store.webhooks import Message
from tierq_shared.webhooks import Endpoint
from tierq_workers import transport
from tierq_workers.pool import run_worker
from tierq_workers.transport import Posted, Poster
from tierq_workers.webhooks import SCHEDULE_S, Deliveries, judge
from unit.store.installation import Installation

# What becomes of a try.


def test_any_2xx_is_delivered() -> None:
    for status in (200, 202, 204, 299):
        verdict = judge(Posted(status), 1)
        assert (verdict.state, verdict.http_status, verdict.error) == ("delivered", status, None)


@pytest.mark.parametrize("posted", [Posted(500), Posted(404), Posted(302), Posted(199), Posted(None, "no answer")])
def test_anything_else_is_tried_again_by_the_schedule_and_then_given_up(posted: Posted) -> None:
    waits = [judge(posted, tries, draw=lambda: 1.0).again_in_s for tries in range(1, len(SCHEDULE_S) + 1)]
    assert waits == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert judge(posted, 2, draw=lambda: 0.25).again_in_s == 75, "full jitter"
    assert judge(posted, 2, draw=lambda: 0.0).state == "pending"
    last = judge(posted, len(SCHEDULE_S) + 1)
    assert (last.state, last.http_status) == ("failed", posted.status)


def test_gone_is_given_up_at_once() -> None:
    verdict = judge(Posted(410), 1)
    assert (verdict.state, verdict.http_status) == ("failed", 410)
    assert "take it out of the configuration" in (verdict.error or "")


@pytest.mark.parametrize(("told", "wait"), [("120", 120.0), ("2", 5.0), ("900000", 86_400.0), ("soon", 5.0)])
def test_retry_after_is_honoured_up_to_a_day(told: str, wait: float) -> None:
    assert judge(Posted(503, headers={"retry-after": told}), 1, draw=lambda: 1.0).again_in_s == wait


def test_what_came_back_is_said_without_what_the_answer_holds() -> None:
    assert judge(Posted(500, body=b"password"), 1).error == "was answered 500"
    assert judge(Posted(302), 1).error == "was answered 302: redirects are not followed"
    assert judge(Posted(None, "no answer within 15 s"), 1).error == "got no answer within 15 s"


# Deliveries.

ENDPOINT = Endpoint(
    "https://h.example/", "https://h.example/?t=1", b"k" * 24, frozenset(), None, 1, allow_private=False
)


@pytest.fixture
def here(tmp_path: Path) -> Any:
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    yield Installation(store)
    store.close()


def put(here: Installation, *numbers: int) -> None:
    """Events in the outbox."""
    happened = [Happening("batch.finished", here.now(), str(number), {}) for number in numbers]
    here.store.write(lambda connection: webhooks.add(connection, ENDPOINT.name, happened))


def deliveries(here: Installation, *answers: Posted | Exception) -> tuple[Deliveries, list[Message]]:
    """Deliveries to an endpoint that answers like this, and what it got."""
    got: list[Message] = []
    left = list(answers)

    async def send(_endpoint: Endpoint, message: Message) -> Posted:
        got.append(message)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Deliveries([ENDPOINT], here.store, asyncio.to_thread, send), got


def test_each_message_is_sent_once_and_recorded(here: Installation) -> None:
    put(here, 1, 2)
    told, got = deliveries(here, Posted(200), Posted(500))
    asyncio.run(told.deliver(ENDPOINT))
    asyncio.run(told.deliver(ENDPOINT))
    assert len(got) == 2
    assert {(row.state, row.http_status, row.tries) for row in here.rows(table)} == {
        ("delivered", 200, 1),
        ("pending", 500, 1),
    }


def test_what_is_given_up_is_said_in_the_log_without_a_secret(
    here: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    put(here, 1)
    told, _ = deliveries(here, Posted(410))
    with caplog.at_level(logging.ERROR, "tierq.webhooks"):
        asyncio.run(told.deliver(ENDPOINT))
    (line,) = caplog.messages
    assert "https://h.example/: given up after 1 tries" in line
    assert "tierq webhooks retry" in line
    assert "?t=1" not in line


def test_tables_of_the_release_before_have_nothing_to_send(here: Installation) -> None:
    put(here, 1)
    here.store.schema_version = "0005"
    told, got = deliveries(here)
    asyncio.run(told.deliver(ENDPOINT))
    assert got == []


def test_a_fault_of_ours_ends_neither_the_worker_nor_the_deliveries(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierq_workers.webhooks.LOOK_EVERY_S", 0.01)
    put(here, 1)
    told, got = deliveries(here, RuntimeError("a bug"), Posted(200))

    with asyncio.Runner() as runner:
        keeping = runner.get_loop().create_task(told.keep())

        def step() -> None:
            runner.run(asyncio.sleep(0.01))
            assert not keeping.done()

        eventually(lambda: step() or got, every=0)
        here.set(table, table.c.state == "pending", next_at=here.now())
        eventually(lambda: step() or here.count(table, table.c.state == "delivered"), every=0)
        keeping.cancel()
    assert len(got) == 2


def test_without_webhooks_the_service_ends_at_once(here: Installation) -> None:
    asyncio.run(asyncio.wait_for(Deliveries([], here.store, asyncio.to_thread).keep(), 5))


def test_a_worker_without_a_secret_to_sign_with_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERQ_WEBHOOK_SECRET", raising=False)
    file = tmp_path / "tierq.toml"
    file.write_text(
        f'database_url = "sqlite:///{tmp_path}/tierq.db"\nbroker_url = "redis://127.0.0.1:1/0"\n'
        '[tiers.small]\nchain = ["mini"]\n[deployments.mini]\nprovider = "openai"\nmodel = "gpt-4o-mini"\n'
        '[[webhooks]]\nurl = "https://h.example/"\n'
    )
    with pytest.raises(ConfigurationError, match=r"^webhooks\.0\.secret_env: TIERQ_WEBHOOK_SECRET is not set"):
        run_worker(configuration.load(file), "small")


# Addresses.


@asynccontextmanager
async def receiver(answer: bytes, seen: list[bytes]) -> AsyncIterator[int]:
    """A server on loopback that notes what it gets and answers with these bytes; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"{}"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def post(host: str, answer: bytes = b"HTTP/1.1 204 \r\n\r\n", *, allow_private: bool) -> tuple[Posted, list[bytes]]:
    seen: list[bytes] = []

    async def work() -> Posted:
        async with receiver(answer, seen) as port:
            url = f"http://{host}:{port}/"
            return await Poster().post(url, b"{}", {"webhook-id": "m"}, allow_private=allow_private)

    return asyncio.run(work()), seen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"])
def test_no_private_address_is_connected_to_however_it_is_written(host: str) -> None:
    posted, seen = post(host, allow_private=False)
    assert (posted.status, seen) == (None, [])
    assert "is no public address" in (posted.error or "")


def test_a_name_that_leads_elsewhere_when_it_is_looked_up_again_is_no_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what is looked at is the address that is connected to, not an earlier answer."""
    real = socket.getaddrinfo

    def rebound(host: Any, *args: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "hooks.example.com" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    posted, seen = post("hooks.example.com", allow_private=False)
    assert (posted.status, seen) == (None, [])
    assert "127.0.0.1 is no public address" in (posted.error or "")
    allowed, seen = post("hooks.example.com", allow_private=True)
    assert (allowed.status, len(seen)) == (204, 1)


def test_a_redirect_is_not_followed_and_an_answer_is_not_read_to_its_end() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    assert post("127.0.0.1", redirect, allow_private=True)[0].status == 302
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 100_000
    posted, seen = post("127.0.0.1", endless, allow_private=True)
    assert (posted.status, len(posted.body) <= 4_096, len(seen)) == (200, True, 1)


def test_an_answer_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "POST_TIMEOUT_S", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        posted = asyncio.run(Poster().post(url, b"{}", {}, allow_private=True))
    assert posted == Posted(None, "no answer within 0.1 s")
