"""The broker: queue names, the Celery app, and the two messages. A message holds ids and a version, never a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tierq_shared.errors import ConfigurationError
from tierq_shared.ids import short
from tierq_shared.settings import Settings

if TYPE_CHECKING:
    # Celery and kombu are imported where they are used: a backend app's start does not wait for them.
    from celery import Celery
    from kombu import Queue

MESSAGE_VERSION = 1
CHUNK_SIZE = 100
"""Tasks in one message. Chunks of 50 to 200 measured alike; 100 ids are 3.5 KB."""

CHUNK_TASK = "tierq.chunk"
MARKER_TASK = "tierq.marker"
MAX_PRIORITY = 9

_SILENCE_S = 5.0
"""How long a broker may be silent where an answer is due. Without such a bound, one that a network has swallowed holds
whoever publishes or takes leave of it for as long as TCP believes in the connection: hours."""

_RABBITMQ_OPTIONS: dict[str, Any] = {"read_timeout": _SILENCE_S, "write_timeout": _SILENCE_S}

_REDIS_OPTIONS: dict[str, Any] = {
    "socket_timeout": _SILENCE_S,
    "visibility_timeout": 3600,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "global_keyprefix": "tierq:",
    "priority_steps": [0, 3, 6, 9],
    "queue_order_strategy": "priority",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """The ids of up to 100 tasks, as one broker message."""

    id: str
    batch_id: str
    tier: str
    priority: int
    task_ids: Sequence[str]

    def message(self) -> dict[str, Any]:
        return {
            "v": MESSAGE_VERSION,
            "chunk": self.id,
            "batch": self.batch_id,
            "tier": self.tier,
            "priority": self.priority,
            "ids": list(self.task_ids),
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Chunk:
        return cls(message["chunk"], message["batch"], message["tier"], message["priority"], message["ids"])

    @property
    def title(self) -> str:
        """What Flower shows of it: `small · 50 tasks · batch 0198f3a2c41d…`."""
        count = len(self.task_ids)
        return f"{self.tier} · {count} task{'s' if count != 1 else ''} · batch {short(self.batch_id)}"


def queue_name(tier: str) -> str:
    return f"tierq.{tier}"


def make_app(settings: Settings) -> Celery:
    """The Celery app of this configuration, with one queue a tier.

    Raises:
        ConfigurationError: no broker is configured, or it is none that TierQ works with.
    """
    from celery import Celery

    if settings.broker_url is None:
        raise ConfigurationError("no broker is configured: set TIERQ_BROKER_URL or broker_url (redis://… or amqp://…)")
    url = settings.broker_url.get_secret_value()
    is_redis = _is_redis(url)
    app = Celery("tierq", broker=url, set_as_current=False)
    app.conf.update(
        task_queues=[_queue(tier, is_redis) for tier in settings.tier_names],
        task_default_queue=queue_name(settings.tier_names[0]),
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=is_redis,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=3,
        broker_transport_options=_REDIS_OPTIONS if is_redis else _RABBITMQ_OPTIONS,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
    )
    return app


class Publisher:
    """Puts chunks and markers on their tiers' queues."""

    def __init__(self, app: Celery) -> None:
        from kombu.exceptions import KombuError

        self._app = app
        self._is_redis = _is_redis(app.conf.broker_url)
        self._errors = (KombuError, OSError, *app.connection().connection_errors)

    def publish(self, chunks: Iterable[Chunk]) -> None:
        """Publishes all chunks in one go.

        Raises:
            BrokerDown: the broker did not take them, or it is unknown whether it did.
        """
        try:
            with self._app.producer_pool.acquire(block=True) as producer, producer.batch():
                for chunk in chunks:
                    self._send(CHUNK_TASK, chunk.tier, chunk.priority, chunk.message(), chunk.title, producer)
        except self._errors as error:
            raise BrokerDown(f"{type(error).__name__}: {error}") from error

    def publish_marker(self, tier: str, priority: int, at: str) -> None:
        """Publishes a marker: whoever receives it proves that what was published well before ``at`` is not queued."""
        message = {"v": MESSAGE_VERSION, "tier": tier, "priority": priority, "at": at}
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                self._send(MARKER_TASK, tier, priority, message, f"{tier} · marker", producer)
        except self._errors as error:
            raise BrokerDown(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._app.close()

    def _send(self, name: str, tier: str, priority: int, message: dict[str, Any], title: str, producer: Any) -> None:
        self._app.send_task(
            name,
            args=(message,),
            queue=queue_name(tier),
            # On Redis priority 0 is served first, on RabbitMQ it is served last.
            priority=MAX_PRIORITY - priority if self._is_redis else priority,
            ignore_result=True,
            producer=producer,
            # An empty argsrepr would make Celery show the real arguments.
            argsrepr=title,
            kwargsrepr="-",
        )


class BrokerDown(Exception):
    """The broker did not take a message. It reaches no user: the rows stay unpublished, and the sweeper rings again."""


def _is_redis(url: str) -> bool:
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in ("redis", "rediss"):
        return True
    if scheme in ("amqp", "amqps", "pyamqp"):
        return False
    raise ConfigurationError(f"{scheme!r} is no broker that TierQ works with: use redis://… or amqp://…")


def _queue(tier: str, is_redis: bool) -> Queue:
    from kombu import Queue

    arguments = None if is_redis else {"x-max-priority": MAX_PRIORITY}
    return Queue(queue_name(tier), routing_key=queue_name(tier), queue_arguments=arguments)
