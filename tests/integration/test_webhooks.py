"""Webhooks with a real worker: each event is told once, signed, tried again where the receiver failed, and listed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from click.testing import CliRunner
from standardwebhooks import Webhook

from conftest import SiteMaker
from support.waiting import eventually
from tierq import Classify, Client
from tierq_console.commands.webhooks import command
from tierq_shared.store import actions
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import webhooks

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


class Receiver:
    """A server that answers with these statuses in turn, then with 200, and keeps what it got and could verify."""

    def __init__(self, url: str, statuses: list[int]) -> None:
        self.url = url
        self._statuses = statuses
        self.got: list[tuple[str, Any]] = []

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.got.append((headers["webhook-id"], Webhook(SECRET).verify(body, headers)))
        return self._statuses.pop(0) if self._statuses else 200

    def bodies(self, type_: str) -> list[Any]:
        return [body for _, body in self.got if body["type"] == type_]


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(receiver.take({name.lower(): value for name, value in self.headers.items()}, body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/tierq", list(statuses))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield receiver
        server.shutdown()


def test_each_event_is_told_once_signed_and_tried_again(site_on: SiteMaker) -> None:
    with receiving(500) as receiver:
        hook = f'[[webhooks]]\nurl = "{receiver.url}?token=hush"\nallow_private = true\n'
        cap = '[[caps]]\nusd = "0.000000001"\nper = "total"\ntag = "poor=yes"\n'
        site = site_on(extra=f"{hook}{cap}[worker]\nsweep_every = 0.2\n")
        env = {"TIERQ_CONFIG": str(site.config), "TIERQ_WEBHOOK_SECRET": SECRET}
        store = Store(site.database_url)
        site.start_worker("small", **env)
        eventually(lambda: len(rows(store)) == 3)  # since when it is told of each type

        with Client(config=site.config) as client:
            batch = client.submit_many([intent("private text", key="private-key"), intent("more")], label="March")
            batch.wait(timeout=30)
            poor = client.submit_many([intent("for nothing")], tags={"poor": "yes"})
            eventually(lambda: len(told(store, "delivered")) == 2, timeout=40)

            finished = receiver.bodies("batch.finished")[-1]["data"]
            assert (finished["batch_id"], finished["counts"]["succeeded"]) == (batch.id, 2)
            assert receiver.bodies("budget.reached")[-1]["data"]["cap"] == "the cap in total on poor=yes"
            ids = [id_ for id_, _ in receiver.got]
            assert (len(ids), len(set(ids))) == (3, 2), "one of them was tried twice, under the same id"
            assert sorted(row.tries for row in told(store, "delivered")) == [1, 2]
            assert "private" not in str([body for _, body in receiver.got])
            poor.cancel()

        listed = json.loads(run("--json", **env))
        assert {(one["state"], one["http_status"]) for one in listed} == {("delivered", 200)}
        assert {one["endpoint"] for one in listed} == {receiver.url}
        assert run("test", **env) == f"{receiver.url} was answered 200\n"
        assert len(receiver.bodies("tierq.test")) == 1

        give_up(store, listed[0]["id"])
        assert run("retry", "--failed", **env).startswith("1 message is sent again")
        eventually(lambda: len(receiver.got) == 5)
        assert receiver.got[-1][0] == listed[0]["id"]
        with store.reading() as connection:
            (action,) = actions.recent(connection, 10)
        assert (action.action, action.details) == ("webhooks retry", {"messages": 1})
        assert "hush" not in site.logs() + str(listed)
        store.close()


def run(*words: str, **env: str) -> str:
    """`tierq webhooks`, in this process."""
    result = CliRunner().invoke(command, words, env=env, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def rows(store: Store) -> list[Any]:
    with store.reading() as connection:
        return list(connection.execute(webhooks.select()))


def told(store: Store, state: str) -> list[Any]:
    return [row for row in rows(store) if row.state == state]


def give_up(store: Store, id_: str) -> None:
    failed = webhooks.update().where(webhooks.c.id == id_).values(state="failed")
    store.write(lambda connection: connection.execute(failed))
