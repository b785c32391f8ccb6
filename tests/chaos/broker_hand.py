"""A hand in the broker: reads chunks' messages, sends them again, takes some away."""

from __future__ import annotations

from sqlalchemy import select

from tierq_shared import configuration
from tierq_shared.queues import Chunk, Publisher, make_app, queue_name
from tierq_shared.store.connection import Store
from tierq_shared.store.submission import with_task_ids
from tierq_shared.store.tables import chunks


class BrokerHand:
    """Over the same Celery app as workers and producers have."""

    def __init__(self, config: configuration.Path) -> None:
        self._app = make_app(configuration.load(config, env={}))
        self._publisher = Publisher(self._app)

    def close(self) -> None:
        self._publisher.close()

    def send(self, some: list[Chunk]) -> None:
        self._publisher.publish(some)

    def take_away(self, tier: str) -> bool:
        """Loses the next message of a tier's queue; whether there was one."""
        with self._app.connection_for_write() as connection, connection.channel() as channel:
            message = channel.basic_get(queue_name(tier))
            if message is None:
                return False
            channel.basic_ack(message.delivery_tag)
            return True


def waiting_chunks(store: Store) -> list[Chunk]:
    """All chunks of which no task is claimed, as their messages say them."""
    with store.reading() as connection:
        return with_task_ids(connection, connection.execute(select(chunks)).all())
