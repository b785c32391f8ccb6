"""A worker's lease: what is lost is begun anew once, whoever finds it lost, and never with a lease that is stale."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tierq_shared.store import leases, schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import workers
from tierq_workers.lease import FRESH_SHARE, Lease

LEASE_S = 2.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    yield store
    store.close()


def lease_of(store: Store, executor: ThreadPoolExecutor, lost: list[str]) -> Lease:
    return Lease(store, executor, "small", "1", LEASE_S, lambda: lost.append("lost"))


def incarnations(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.execute(select(workers.c.id).order_by(workers.c.started_at)).scalars())


def test_two_who_find_it_lost_begin_one_incarnation(store: Store) -> None:
    lost: list[str] = []

    async def both(lease: Lease) -> None:
        await lease.begin()
        await asyncio.gather(lease.replace(), lease.replace())

    with ThreadPoolExecutor(2) as executor:
        lease = lease_of(store, executor, lost)
        asyncio.run(both(lease))
    assert lost == ["lost"]
    assert len(incarnations(store)) == 2
    assert lease.worker_id == incarnations(store)[-1]


def test_a_lease_that_was_half_over_when_it_was_there_is_not_worked_under(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, hangs = leases.register_worker, [LEASE_S * FRESH_SHARE]

    def slow_once(*given: Any) -> None:
        register(*given)
        if hangs:
            time.sleep(hangs.pop())

    monkeypatch.setattr(leases, "register_worker", slow_once)
    with ThreadPoolExecutor(1) as executor:
        lease = lease_of(store, executor, [])
        asyncio.run(lease.begin())
    stale, fresh = incarnations(store)
    assert lease.worker_id == fresh != stale
