"""Messages that strangers put on a tier's queue: never run, never redelivered, never shown, but recorded."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from conftest import SiteMaker
from support.servers import Site
from support.waiting import eventually
from tierq import Classify, Client
from tierq_shared import configuration
from tierq_shared.queues import CHUNK_TASK, MARKER_TASK, make_app

PLANTED = "planted-message-body"
CHUNK = {"v": 1, "chunk": "c", "batch": "b", "tier": "small", "priority": 5, "ids": [PLANTED]}
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
JSON = "application/json"


class Bomb:
    """What a pickle may do to whoever loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def body(content: object, embedded: object = NOTHING) -> bytes:
    return json.dumps([[content], {}, embedded]).encode()


def hostile(mark: Path) -> dict[str, dict[str, Any]]:
    """Messages by what is wrong with them, as arguments of `Producer.publish`."""
    callback = {"task": MARKER_TASK, "args": [PLANTED], "kwargs": {}, "options": {}}
    good = {"body": body(CHUNK), "content_type": JSON}
    pickled = pickle.dumps([[Bomb(mark), PLANTED], {}, NOTHING])
    return {
        "pickle": {"body": pickled, "content_type": "application/x-python-serialize"},
        "pickle that says JSON": {"body": pickled, "content_type": JSON},
        "yaml": {"body": f"- [{PLANTED}]".encode(), "content_type": "application/x-yaml"},
        "no content type": {"body": PLANTED.encode(), "content_type": None},
        "unknown task": {**good, "headers": {"task": "os.system"}},
        "task that is no name": {**good, "headers": {"task": [PLANTED]}},
        "no task": {**good, "headers": {"task": None}},
        "protocol 1": {"body": json.dumps({"task": CHUNK_TASK, "id": "1", "args": [PLANTED]}).encode(), "headers": {}},
        "no id": {**good, "headers": {"id": None}},
        "number": {"body": b"5"},
        "null": {"body": b"null"},
        "object": {"body": json.dumps({"args": [PLANTED]}).encode()},
        "other arguments": {"body": json.dumps([[PLANTED, 1], {}, NOTHING]).encode()},
        "missing fields": {"body": body({"v": 1, "ids": [PLANTED]})},
        "ids that are none": {"body": body({**CHUNK, "ids": [PLANTED, 7]})},
        "NUL in an id": {"body": body({**CHUNK, "ids": [f"{PLANTED}\0"]})},
        "another tier": {"body": body({**CHUNK, "tier": PLANTED})},
        "priority beyond all": {"body": body({**CHUNK, "priority": 10**30})},
        "unknown version": {"body": body({**CHUNK, "v": 99, "new": PLANTED})},
        "marker without a time": {
            "body": body({"v": 1, "tier": "small", "priority": 5, "at": PLANTED}),
            "headers": {"task": MARKER_TASK},
        },
        "callback": {"body": body(CHUNK, {**NOTHING, "callbacks": [callback]})},
        "countdown": {**good, "headers": {"eta": "2999-01-01T00:00:00+00:00"}},
        "bad countdown": {**good, "headers": {"eta": PLANTED}},
        "huge": {"body": body({**CHUNK, "ids": [PLANTED] * 100_000})},
        "not UTF-8": {"body": b'[["\xff\xfe' + PLANTED.encode() + b'"]]'},
        "deep": {"body": b"[" * 100_000},
        "compressed": {**good, "body": zlib.compress(body(CHUNK)), "headers": {"compression": "application/x-gzip"}},
    }


def put_by_hand(site: Site, messages: list[dict[str, Any]]) -> None:
    """As somebody would who can reach the broker: with kombu, past all of TierQ's and Celery's own code."""
    app = make_app(configuration.load(site.config))
    with app.connection() as connection, connection.Producer() as producer:
        for message in messages:
            own = {"id": "planted", "task": CHUNK_TASK, **(message.get("headers") or {})}
            headers = {} if message.get("headers") == {} else own
            arguments = {"content_type": JSON, "content_encoding": "utf-8", **message, "headers": headers}
            producer.publish(exchange="", routing_key="tierq.small", retry=False, **arguments)


def waiting(site: Site) -> int:
    """Messages on the tier's queue; on Redis also those that were taken off it and not acknowledged."""
    app = make_app(configuration.load(site.config))
    with app.connection() as connection:
        channel = connection.default_channel
        count: int = app.amqp.queues["tierq.small"](channel).queue_declare().message_count
        return count + (channel.client.hlen("unacked") if hasattr(channel, "client") else 0)


@pytest.mark.parametrize(("database", "broker"), [("postgresql", "redis"), ("sqlite", "rabbitmq")])
def test_what_strangers_put_on_a_queue_is_refused_and_recorded(
    site_on: SiteMaker, tmp_path: Path, database: str, broker: str
) -> None:
    site = site_on(database, broker)
    site.start_worker("small")
    messages = hostile(tmp_path / "executed")
    with Client(config=site.config) as client:
        intent = Classify.spec("intent", labels=["billing", "bug"])
        assert client.submit(intent(text="My invoice is wrong")).wait(timeout=60).ok
        put_by_hand(site, list(messages.values()))
        refusals = eventually(lambda: _refusals(site, len(messages)))
        assert client.submit(intent(text="My invoice is wrong")).wait(timeout=60).ok
    assert [worker.poll() for worker in site.workers] == [None]
    site.stop_workers()
    eventually(lambda: waiting(site) == 0)
    assert not (tmp_path / "executed").exists()
    assert len(refusals) == len(_refusals(site, 0)) == len(messages)
    assert all("on queue tierq.small (" in line for line in refusals)
    assert "(application/x-python-serialize, " in refusals[0]
    assert PLANTED not in site.logs()


def _refusals(site: Site, at_least: int) -> list[str]:
    lines = [line for line in site.logs().splitlines() if "refused a message" in line]
    return lines if len(lines) >= at_least else []
