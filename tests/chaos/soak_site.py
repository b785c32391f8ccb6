"""The installation of the soak: stores and broker of its own, worker processes, a simulator that has bad days."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.servers import Site, fresh_simulator
from support.sites import open_site

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"

[tiers.small]
chain = ["mini", "haiku", "flash"]
spill_after = "5s"
[tiers.medium]
chain = ["haiku", "mini"]
spill_after = "5s"

[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{simulator}/v1"
timeout_s = 3
[deployments.haiku]
provider = "anthropic"
model = "claude-haiku-4-5"
base_url = "{simulator}"
timeout_s = 3
[deployments.flash]
provider = "gemini"
model = "gemini-2.5-flash"
base_url = "{simulator}"
timeout_s = 3

[[policy]]
type = "classify"
tier = "small"
[[policy]]
tier = "medium"
"""

FAULTS = {
    "models": {
        # Less than what is asked of it, so that some tasks wait for a permit and some spill.
        "gpt-4o-mini": {"rpm": 4_800, "burst_s": 10},
        "*": {
            "latency_p50_ms": 150,
            "latency_p95_ms": 600,
            "faults": [
                {"kind": "overloaded", "rate": 0.02},
                {"kind": "rate_limited", "rate": 0.0005, "retry_after_s": 1},
                {"kind": "broken_json", "rate": 0.01},
                {"kind": "reset", "rate": 0.005},
                {"kind": "hang", "rate": 0.002},
            ],
        },
    }
}
OUTAGES = ({"provider": "openai", "kind": "overloaded"}, {"provider": "anthropic", "kind": "server_error"})
OUTAGE_S = 15.0

SLOTS = ("small 1", "small 2", "medium 1")
"""The worker processes, each by its tier and number."""
VICTIM = "small 2"
"""The one that is killed and replaced; the others live through it all."""


@dataclass
class SoakSite:
    """What runs, by name."""

    site: Site
    workers: dict[str, subprocess.Popen[bytes]]

    def replace_victim(self) -> None:
        self.workers[VICTIM].kill()
        self.workers[VICTIM].wait()
        self.workers[VICTIM] = self.site.start_worker(VICTIM.split()[0])

    @contextmanager
    def producing(self, rate: int, seconds: float, output: Path) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "chaos.steady_producer", str(self.site.config), str(rate), str(seconds)]
        with output.open("wb") as lines, (self.site.folder / "producer.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=lines, stderr=log)
            try:
                yield process
            finally:
                process.kill()
                process.wait()


@contextmanager
def soak_site(folder: Path, store: str, broker: str) -> Iterator[SoakSite]:
    """Starts everything but the producer; all of it ends with the block."""
    with ExitStack() as stack:
        simulator = stack.enter_context(fresh_simulator(folder))
        simulator.configure(FAULTS)
        site = open_site(stack, folder, simulator, template=CONFIG, database=store, broker=broker)
        yield SoakSite(site, {slot: site.start_worker(slot.split()[0]) for slot in SLOTS})
