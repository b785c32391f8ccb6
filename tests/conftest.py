"""Fixtures over real parts. A test asks for `site`; `site_on` builds one over a store and a broker of its choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.servers import (
    Simulator,
    Site,
    alone_with,
    amqp_url,
    fresh_postgres,
    fresh_redis,
    fresh_simulator,
    purge,
)
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"

[tiers.small]
chain = ["mini", "haiku", "flash"]
[tiers.medium]
chain = ["haiku", "mini"]
[tiers.large]
chain = ["pro"]

[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{simulator}/v1"
region = "us"
[deployments.haiku]
provider = "anthropic"
model = "claude-haiku-4-5"
base_url = "{simulator}"
region = "eu"
[deployments.flash]
provider = "gemini"
model = "gemini-2.5-flash"
base_url = "{simulator}"
[deployments.pro]
provider = "gemini"
model = "gemini-2.5-pro"
base_url = "{simulator}"
region = "eu"
{extra}
"""

SiteMaker = Callable[..., Site]


@pytest.fixture(autouse=True)
def no_outside_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's environment says must not reach a test."""
    for name in ("TIERQ_CONFIG", "TIERQ_DATABASE_URL", "TIERQ_BROKER_URL", "TIERQ_STATE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with fresh_simulator(tmp_path) as simulator:
        yield simulator


@pytest.fixture
def site_on(tmp_path: Path, simulator: Simulator) -> Iterator[SiteMaker]:
    """Builds a site: `site_on(database="postgresql", broker="rabbitmq", extra="[worker]…")`."""
    with ExitStack() as stack:

        def build(database: str = "sqlite", broker: str = "redis", extra: str = "", **_: Any) -> Site:
            url = f"sqlite:///{tmp_path}/tierq.db" if database == "sqlite" else stack.enter_context(fresh_postgres())
            socket = stack.enter_context(fresh_redis(tmp_path))
            state_url = f"unix://{socket}?db=1"
            broker_url = f"redis+socket://{socket}?virtual_host=0"
            if broker == "rabbitmq":
                found = amqp_url()
                if found is None:
                    pytest.skip("no RabbitMQ answers: set TIERQ_TEST_AMQP_URL")
                broker_url = found
                stack.enter_context(alone_with("rabbitmq"))
                purge(found, ["tierq.small", "tierq.medium", "tierq.large"])
            config = tmp_path / "tierq.toml"
            config.write_text(
                CONFIG.format(
                    database_url=url, broker_url=broker_url, state_url=state_url, simulator=simulator.url, extra=extra
                )
            )
            store = Store(url)
            schema.migrate(store)
            store.close()
            site = Site(tmp_path, config, url, broker_url, simulator)
            stack.callback(site.stop_workers)
            return site

        yield build


@pytest.fixture
def site(site_on: SiteMaker) -> Site:
    return site_on()
