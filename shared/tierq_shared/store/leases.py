"""Leases by the database's clock: one row a worker incarnation, and named ones such as the sweeper's."""

from __future__ import annotations

import os
import socket

from sqlalchemy import Connection, func, insert, or_, select, update

from tierq_shared.store.clock import now
from tierq_shared.store.submission import insert_ignoring
from tierq_shared.store.tables import leases, workers


def register_worker(connection: Connection, worker_id: str, tier: str, release: str, lease_s: float) -> None:
    """A new incarnation of a worker process begins, with its lease."""
    connection.execute(
        insert(workers).values(
            id=worker_id,
            tier=tier,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=release,
            started_at=now(),
            lease_until=now(lease_s),
        )
    )


def renew(connection: Connection, worker_id: str, lease_s: float, rest_s: float = 0.0) -> bool:
    """Renews a worker's lease; False where it is over, and its tasks are others' by now.

    ``rest_s``: how long its deployment chain rests, for people and for whoever scales its tier.
    """
    renewed = connection.execute(
        update(workers)
        .where(workers.c.id == worker_id, workers.c.lease_until > now(), workers.c.stopped_at.is_(None))
        .values(lease_until=now(lease_s), resting_until=now(rest_s) if rest_s else None)
        .returning(workers.c.id)
    )
    return renewed.first() is not None


def stop_worker(connection: Connection, worker_id: str) -> None:
    """This incarnation is over; the sweeper settles what it may have left."""
    connection.execute(update(workers).where(workers.c.id == worker_id).values(stopped_at=now()))


def live_workers(connection: Connection) -> dict[str, int]:
    """How many workers with a running lease serve each tier."""
    rows = connection.execute(
        select(workers.c.tier, func.count().label("workers"))
        .where(workers.c.lease_until > now(), workers.c.stopped_at.is_(None))
        .group_by(workers.c.tier)
    )
    return {row.tier: row.workers for row in rows}


def take(connection: Connection, name: str, holder: str, seconds: float) -> bool:
    """Takes or renews a named lease; False while another holds it."""
    connection.execute(insert_ignoring(connection, leases).values(name=name, holder=holder, until=now(-1)))
    taken = connection.execute(
        update(leases)
        .where(leases.c.name == name, or_(leases.c.holder == holder, leases.c.until < now()))
        .values(holder=holder, until=now(seconds))
        .returning(leases.c.name)
    )
    return taken.first() is not None


def held_by_another(connection: Connection, name: str, holder: str) -> bool:
    """Whether another holds the lease now; a cheap look before `take`, which writes."""
    held = select(leases.c.name).where(leases.c.name == name, leases.c.holder != holder, leases.c.until > now())
    return connection.execute(held).first() is not None
