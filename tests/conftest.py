"""Fixtures over real parts. A test asks for `site`; `site_on` builds one over a store and a broker of its choice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.servers import Simulator, Site, fresh_simulator
from support.sites import open_site

SiteMaker = Callable[..., Site]

# A shell has what it runs in the background ignore Ctrl-C, and processes inherit that: ours are stopped by it here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_outside_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's environment says must not reach a test."""
    for name in ("TIERQ_CONFIG", "TIERQ_DATABASE_URL", "TIERQ_BROKER_URL", "TIERQ_STATE_URL", "TIERQ_PAYLOAD_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with fresh_simulator(tmp_path) as simulator:
        yield simulator


@pytest.fixture
def site_on(tmp_path: Path, simulator: Simulator) -> Iterator[SiteMaker]:
    """Builds a site: `site_on(database="postgresql", broker="rabbitmq", extra="[worker]…")`."""
    with ExitStack() as stack:

        def build(database: str = "sqlite", broker: str = "redis", extra: str = "") -> Site:
            return open_site(stack, tmp_path, simulator, database=database, broker=broker, extra=extra)

        yield build


@pytest.fixture
def site(site_on: SiteMaker) -> Site:
    return site_on()
