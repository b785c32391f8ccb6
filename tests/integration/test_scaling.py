"""One tier's pool is scaled up and down on its backlog, with real workers: nothing is lost, the other tier stays."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import select

from conftest import SiteMaker
from support.servers import Site
from support.waiting import eventually
from tierq import Client
from tierq_shared.store.connection import Store
from tierq_shared.store.leases import live_workers
from tierq_shared.store.tables import attempts

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.scaling.controller import Controller, Rule
from bench.scaling.count import count
from bench.scaling.load import Load
from bench.scaling.pool import Pool

PATIENCE_S = 60.0
WAVE = 300
"""Tasks, of which a worker ends 33 a second: 10 in flight at 300 ms."""
MOST = 3


def serving(store: Store, tier: str) -> int:
    with store.reading() as connection:
        return live_workers(connection).get(tier, 0)


def callers(store: Store, tier: str) -> set[str]:
    """The workers that made a tier's calls."""
    with store.reading() as connection:
        return set(connection.execute(select(attempts.c.worker_id).where(attempts.c.tier == tier)).scalars())


def test_a_tier_grows_and_shrinks_under_load_and_the_other_does_not_move(site_on: SiteMaker) -> None:
    site = site_on("postgresql")
    site.config.write_text(site.config.read_text().replace("max_in_flight = 200", "max_in_flight = 10"))
    site.simulator.configure({"models": {"*": {"latency_ms": 300}}})
    store = Store(site.database_url)
    small, medium = pool(site, "small"), pool(site, "medium")
    controller = Controller(store, "small", small, Rule(per_worker=100, most=MOST, hold_s=1.0))
    with Client(config=site.config) as client:
        medium.scale(1)
        controller.step()
        eventually(lambda: serving(store, "small") == serving(store, "medium") == 1, PATIENCE_S)
        load = Load(client, {"small": 3, "medium": 1})
        load.start()
        load.submit("small", WAVE)
        eventually(lambda: controller.step().workers == MOST, PATIENCE_S)
        # Down again while tasks still come in.
        eventually(lambda: controller.step().workers == 1, PATIENCE_S)
        load.finish(PATIENCE_S)
    assert small.close() == medium.close() == []
    assert controller.sizes[:2] == [1, MOST]
    assert (small.started, medium.started) == (MOST, 1)
    with store.reading() as connection:
        counted = count(connection, load.submitted, site.simulator.served())
    assert counted.is_even, counted
    assert counted.succeeded > WAVE
    assert len(callers(store, "small")) > 1
    assert len(callers(store, "medium")) == 1
    store.close()


def pool(site: Site, tier: str) -> Pool:
    return Pool(lambda: site.start_worker(tier))
