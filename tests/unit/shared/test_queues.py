"""The broker's messages: ids only, first things first on either broker."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tierq_shared.errors import ConfigurationError
from tierq_shared.ids import new_id
from tierq_shared.queues import CHUNK_SIZE, BrokerDown, Chunk, Publisher, make_app, queue_name
from tierq_shared.settings import Settings

REDIS, RABBIT = "redis://broker/0", "amqp://broker//"
CHUNK = Chunk("c1", "0198f3a2c41d7", "small", 5, ["t1", "t2"])


class Producer:
    """Stands for kombu's producer and its pool."""

    def acquire(self, *, block: bool) -> Any:
        return self.batch()

    @contextmanager
    def batch(self) -> Any:
        yield self


class App:
    """Stands for a Celery app on a broker, and keeps what was sent."""

    def __init__(self, url: str, error: Exception | None = None) -> None:
        self.conf = SimpleNamespace(broker_url=url)
        self.producer_pool = Producer()
        self.sent: list[dict[str, Any]] = []
        self._error = error

    def connection(self) -> Any:
        return SimpleNamespace(connection_errors=(KeyError,))

    def send_task(self, name: str, **how: Any) -> None:
        if self._error:
            raise self._error
        self.sent.append({"name": name, **how})


def published(*chunks: Chunk, url: str = REDIS) -> list[dict[str, Any]]:
    app = App(url)
    Publisher(app).publish(chunks)  # type: ignore[arg-type]
    return app.sent


def test_a_message_holds_ids_and_a_version_and_nothing_else() -> None:
    (sent,) = published(CHUNK)
    assert sent["args"] == (
        {"v": 1, "chunk": "c1", "batch": "0198f3a2c41d7", "tier": "small", "priority": 5, "ids": ["t1", "t2"]},
    )
    assert "kwargs" not in sent
    assert (sent["name"], sent["queue"]) == ("tierq.chunk", "tierq.small")


def test_a_message_comes_back_as_the_chunk_it_was() -> None:
    assert Chunk.from_message(json.loads(json.dumps(CHUNK.message()))) == CHUNK


def test_a_full_chunk_stays_a_small_message() -> None:
    chunk = Chunk(new_id(), new_id(), "small", 5, [new_id() for _ in range(CHUNK_SIZE)])
    assert len(json.dumps(chunk.message())) < 4_000


@pytest.mark.parametrize(
    ("url", "on_the_wire"),
    [
        (REDIS, {9: 0, 5: 4, 0: 9}),
        ("rediss://broker/0", {9: 0, 0: 9}),
        ("redis+socket:///run/redis.sock", {9: 0, 0: 9}),
        (RABBIT, {9: 9, 5: 5, 0: 0}),
        ("amqps://broker//", {9: 9, 0: 0}),
    ],
)
def test_the_highest_priority_is_0_on_redis_and_9_on_rabbitmq(url: str, on_the_wire: dict[int, int]) -> None:
    chunks = [Chunk("c", "b", "small", priority, ["t"]) for priority in on_the_wire]
    sent = published(*chunks, url=url)
    assert [one["priority"] for one in sent] == list(on_the_wire.values())
    # The message itself keeps the words of the task.
    assert [one["args"][0]["priority"] for one in sent] == list(on_the_wire)


def test_flower_is_shown_a_title_and_never_the_arguments() -> None:
    (sent,) = published(CHUNK)
    assert (sent["argsrepr"], sent["kwargsrepr"]) == ("small · 2 tasks · batch 0198f3a2c41d…", "-")
    assert Chunk("c", "b", "small", 5, ["t"]).title.startswith("small · 1 task · ")


def test_a_marker_names_queue_priority_and_time() -> None:
    app = App(REDIS)
    Publisher(app).publish_marker("small", 9, "2030-01-01")  # type: ignore[arg-type]
    (sent,) = app.sent
    assert sent["args"] == ({"v": 1, "tier": "small", "priority": 9, "at": "2030-01-01"},)
    assert (sent["name"], sent["queue"], sent["priority"]) == ("tierq.marker", "tierq.small", 0)


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), KeyError("gone")])
def test_a_broker_that_does_not_take_a_message_is_down(error: Exception) -> None:
    publisher = Publisher(App(REDIS, error))  # type: ignore[arg-type]
    with pytest.raises(BrokerDown, match=f"^{type(error).__name__}: .*gone"):
        publisher.publish([CHUNK])
    with pytest.raises(BrokerDown):
        publisher.publish_marker("small", 5, "2030-01-01")


@pytest.mark.parametrize(("url", "arguments"), [(REDIS, None), (RABBIT, {"x-max-priority": 9})])
def test_an_app_has_one_queue_a_tier(url: str, arguments: dict[str, int] | None) -> None:
    app = make_app(Settings.model_validate({"broker_url": url}))
    queues = app.conf.task_queues
    assert [queue.name for queue in queues] == [queue_name(tier) for tier in ("small", "medium", "large")]
    assert all(queue.queue_arguments == arguments for queue in queues)
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_disable_prefetch is (url == REDIS)
    app.close()


def test_other_brokers_are_refused_and_none_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"^'sqs' is no broker that TierQ works with"):
        make_app(Settings.model_validate({"broker_url": "sqs://user:secret@broker"}))
    with pytest.raises(ConfigurationError, match="TIERQ_BROKER_URL"):
        make_app(Settings())
