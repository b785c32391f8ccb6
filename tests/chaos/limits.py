"""Measures the shared rate limits against the simulator's quota: `python -m chaos.limits`.

Four worker processes, more work than the quota allows, one minute after the start: how much of the quota is used, how
many calls are refused with 429, how evenly the processes share it, and how many Redis round trips a task takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import redis
from sqlalchemy import func, select

from chaos.page import write_section
from support.servers import Site, fresh_simulator
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts

PROCESSES = 4
WARM_UP_S = 15.0
LEARNING_S = 60.0
LATENCY_MS = 120.0

CONFIG = Template("""
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
$limits
[tiers.small]
chain = ["one"]
[deployments.one]
provider = "$provider"
model = "$model"
base_url = "{simulator}$path"
$limit
[[policy]]
tier = "small"
""")


@dataclass(frozen=True)
class Case:
    """A quota, and what TierQ is told of it."""

    name: str
    quota: dict[str, Any]
    configured: dict[str, int]
    provider: str = "openai"
    model: str = "gpt-4o-mini"
    learns: bool = False


CASES = [
    Case("rpm 1,200, configured", {"rpm": 1_200, "burst_s": 1}, {"rpm": 1_200}),
    Case("rpm 12,000, configured", {"rpm": 12_000, "burst_s": 1}, {"rpm": 12_000}),
    Case("tpm 60,000, configured", {"tpm": 60_000, "burst_s": 2}, {"tpm": 60_000}),
    Case("rpm 1,200, told by headers", {"rpm": 1_200, "burst_s": 1}, {}, learns=True),
    Case("rpm 1,200, learned", {"rpm": 1_200, "burst_s": 1}, {}, "gemini", "gemini-2.5-flash", learns=True),
]


@dataclass(frozen=True)
class Figures:
    """What a case came to, in its measured span."""

    case: Case
    used: float
    refused: float
    least_share: float
    most_share: float
    round_trips: float

    @property
    def is_good(self) -> bool:
        """Whether the promise is kept: 95 % used, 1 % refused, nobody starves."""
        return self.used >= 0.95 and self.refused <= 0.01 and self.least_share >= 0.5 / PROCESSES

    def row(self) -> str:
        shares = f"{self.least_share:.0%} to {self.most_share:.0%}"
        return f"| {self.case.name} | {self.used:.1%} | {self.refused:.2%} | {shares} | {self.round_trips:.2f} |"


def measure(case: Case, seconds: float) -> Figures:
    """Runs a case on processes of its own."""
    with tempfile.TemporaryDirectory(prefix="tierq-limits-") as name, ExitStack() as stack:
        simulator = stack.enter_context(fresh_simulator(Path(name)))
        simulator.configure({"models": {"*": {"latency_ms": LATENCY_MS, "latency_jitter_ms": 60, **case.quota}}})
        site = open_site(stack, Path(name), simulator, template=_template(case))
        with Client(config=site.config) as client:
            intent = Classify.spec("intent", labels=["billing", "bug", "praise"])
            count = int((seconds + WARM_UP_S + LEARNING_S) * 250)
            client.submit_many(intent(text=f"My invoice {number} is wrong") for number in range(count))
        for _ in range(PROCESSES):
            site.start_worker("small")
        eventually(lambda: simulator.stats()["requests"] >= PROCESSES, 60)
        time.sleep(LEARNING_S if case.learns else WARM_UP_S)
        return _watch(case, site, seconds)


def _template(case: Case) -> str:
    table = "\n".join(["[limits.account]", *(f"{name} = {value}" for name, value in case.configured.items())])
    return CONFIG.substitute(
        limits=table if case.configured else "",
        limit='limit = "account"' if case.configured else "",
        provider=case.provider,
        model=case.model,
        path="" if case.provider == "gemini" else "/v1",
    )


def _watch(case: Case, site: Site, seconds: float) -> Figures:
    state = redis.Redis(unix_socket_path=str(site.redis.socket))
    store = Store(site.database_url)
    began, before, scripts, counts = time.monotonic(), site.simulator.stats(), _scripts(state), _by_worker(store)
    time.sleep(seconds)
    span, after = time.monotonic() - began, site.simulator.stats()
    worked = {worker: count - counts.get(worker, 0) for worker, count in _by_worker(store).items()}
    trips = _scripts(state) - scripts
    store.close()
    refused = _count(after, "rate_limited") - _count(before, "rate_limited")
    calls = after["requests"] - before["requests"]
    if "tpm" in case.quota:
        used = (_tokens(after) - _tokens(before)) / (case.quota["tpm"] * span / 60)
    else:
        used = (calls - refused) / (case.quota["rpm"] * span / 60)
    shares = [count / sum(worked.values()) for count in worked.values()]
    return Figures(case, used, refused / calls, min(shares), max(shares), trips / calls)


def _scripts(state: redis.Redis) -> int:
    found: Any = state.info("commandstats")
    return sum(int(found.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))


def _by_worker(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        rows = connection.execute(select(attempts.c.worker_id, func.count()).group_by(attempts.c.worker_id))
        return {row[0]: row[1] for row in rows}


def _count(stats: dict[str, Any], outcome: str) -> int:
    return int(stats["by_outcome"].get(outcome, 0))


def _tokens(stats: dict[str, Any]) -> int:
    return sum(int(value) for value in stats["tokens"].values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, after the warm-up")
    parser.add_argument("--only", help="a part of the name of the cases to run")
    parser.add_argument("--no-page", action="store_true", help="leaves docs/reliability.md as it is")
    options = parser.parse_args()
    figures = []
    for case in CASES:
        if options.only is None or options.only in case.name:
            figures.append(measure(case, options.seconds))
            print(figures[-1].row(), flush=True)
    if not options.no_page and options.only is None:
        head = f"Four worker processes, {options.seconds:.0f} s each, more work than the quota allows, calls of about "
        head += f"{LATENCY_MS:.0f} ms. A process that had its even share would have 25 %.\n\n"
        table = "| quota | used | refused with 429 | shares of the processes | Redis round trips a call |\n"
        table += "|---|---|---|---|---|\n" + "\n".join(one.row() for one in figures)
        write_section("limits", head + table)
    return 0 if all(one.is_good for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
