"""A whole installation for one test, over a store and a broker of its choice."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from support.servers import Simulator, Site, alone_with, amqp_url, fresh_postgres, fresh_redis, purge
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"

[tiers.small]
chain = ["mini", "haiku", "flash"]
max_in_flight = {max_in_flight}
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


def open_site(
    stack: ExitStack,
    folder: Path,
    simulator: Simulator,
    *,
    template: str = CONFIG,
    database: str = "sqlite",
    broker: str = "redis",
    extra: str = "",
    provider_url: str | None = None,
    max_in_flight: int = 200,
) -> Site:
    """A site that ends with ``stack``.

    ``template``: its configuration, see `CONFIG`; ``database``: `sqlite`, `postgresql`, or the URL of an empty
    database; ``broker``: `redis` or `rabbitmq`; ``provider_url``: where workers call the providers, the simulator
    itself by default; ``max_in_flight``: of a worker of the small tier.
    """
    if database == "sqlite":
        database = f"sqlite:///{folder}/tierq.db"
    elif database == "postgresql":
        database = stack.enter_context(fresh_postgres())
    server = stack.enter_context(fresh_redis(folder))
    broker_url = _rabbitmq(stack) if broker == "rabbitmq" else f"redis+socket://{server.socket}?virtual_host=0"
    config = folder / "tierq.toml"
    config.write_text(
        template.format(
            database_url=database,
            broker_url=broker_url,
            state_url=f"unix://{server.socket}?db=1",
            simulator=provider_url or simulator.url,
            extra=extra,
            max_in_flight=max_in_flight,
        )
    )
    store = Store(database)
    schema.migrate(store)
    store.close()
    site = Site(folder, config, database, broker_url, simulator, server)
    stack.callback(site.stop_workers)
    return site


def _rabbitmq(stack: ExitStack) -> str:
    """The shared RabbitMQ, for this test alone, its queues empty."""
    found = amqp_url()
    if found is None:
        pytest.skip("no RabbitMQ answers: set TIERQ_TEST_AMQP_URL")
    stack.enter_context(alone_with("rabbitmq"))
    purge(found, ["tierq.small", "tierq.medium", "tierq.large"])
    return found
