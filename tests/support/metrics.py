"""What a worker's /metrics says, as values; and all that it can say."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from support.servers import free_port, fresh_redis
from tierq_shared.settings import Settings
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_workers.observers.prometheus import PrometheusObserver
from tierq_workers.vitals import Phase, Vitals

Samples = Mapping[str, Mapping[str, float]]
"""By name, then by the values of the labels, joined by `/` in the order of their names."""


def samples(text: str) -> Samples:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name]["/".join(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def scrape(port: int) -> Samples:
    return samples(httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text)


def healthy(settings: Settings, tier: str = "small") -> Vitals:
    """A worker that is well."""
    return Vitals(tier, Phase.WORKING, settings, 3, 0.1, 0.02, settings.worker.lease)


@dataclass
class Exported:
    """A metric as workers export it."""

    kind: str
    labels: set[str] = field(default_factory=set)
    samples: set[str] = field(default_factory=set)
    """The names that a query may ask for."""


@contextmanager
def observed(store: Store, settings: Settings) -> Iterator[PrometheusObserver]:
    """A worker's observer while it serves."""
    observer = PrometheusObserver(settings, "small")
    observer.begins(store, lambda: healthy(settings))
    try:
        yield observer
    finally:
        observer.close()


def exported(folder: Path) -> dict[str, Exported]:
    """Every metric of ours that a worker exports, by its name as Prometheus shows it."""
    store = Store(f"sqlite:///{folder}/tierq.db")
    schema.migrate(store)
    with fresh_redis(folder) as redis:
        settings = Settings.model_validate(
            {
                "state_url": f"unix://{redis.socket}",
                "metrics": {"port": free_port()},
                "limits": {"account": {"rpm": 60, "tpm": 1_000}},
                "tiers": {"small": {"chain": ["mini"]}},
                "deployments": {"mini": {"provider": "openai", "model": "m", "limit": "account"}},
            }
        )
        with observed(store, settings):
            text = httpx.get(f"http://127.0.0.1:{settings.metrics.port}/metrics").text
    store.close()
    shutil.rmtree(folder)
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("tierq_"):
            one = found[name] = Exported(family.type)
            for sample in family.samples:
                one.samples.add(sample.name)
                one.labels |= sample.labels.keys() - {"le"}
    return found
