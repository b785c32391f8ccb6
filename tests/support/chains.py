"""A stage for what providers' errors lead to: many short deployment chains on one site, a fresh one for each case.

A chain is a region: tasks that `require` it see its deployments and no others, so what rests for one case is free for
the next, and two worker processes serve them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from support.ledger import Ledger
from support.servers import Site, fresh_simulator
from support.sites import open_site
from support.waiting import eventually
from tierq import Classify, Client, Handle, Outcome

PROVIDERS = ("openai", "anthropic", "gemini", "openai-compatible")
PATIENCE_S = 60.0

_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])

_HEAD = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[worker]
sweep_every = "100ms"
max_attempts = {max_attempts}
[[policy]]
tier = "small"
[tiers.small]
max_in_flight = {slots}
chain = [{small}]
[tiers.medium]
spill_after = "2s"
refusal_failover = true
chain = [{medium}]
"""

_DEPLOYMENT = """
[deployments.{region}-{role}]
provider = "{provider}"
model = "{region}-{role}"
base_url = "{base_url}"
key_env = "{key_env}"
region = "{region}"
context_window = {window}
timeout_s = {timeout_s}
[deployments.{region}-{role}.price]
input = 1.0
output = 2.0
"""

NOBODY = "http://127.0.0.1:9"
"""The discard port, on which nobody listens."""


@dataclass(frozen=True)
class Kind:
    """How a chain is built: `first` and `next` on the small tier, `upper` on the medium one."""

    name: str
    each: int
    """Chains of it for each provider; a case takes one."""
    first_at: str = "{simulator}"
    first_window: int = 8_000
    timeout_s: float = 60.0
    small: tuple[str, ...] = ("first", "next")
    medium: tuple[str, ...] = ("upper",)


KINDS = (
    Kind("plain", 50),
    Kind("dead", 2, first_at=NOBODY),
    Kind("hasty", 2, timeout_s=0.3),
    Kind("wide", 5, first_window=64_000),
    Kind("lenient", 12, small=(), medium=("first", "next")),
)
"""`wide`: no deployment of its tier has a larger window than the first. `lenient`: on the tier that fails over where
one deployment refused, and that lets standard work spill after 2 s."""


def _deployment(region: str, role: str, kind: Kind, provider: str) -> str:
    is_first = role == "first"
    base = kind.first_at if is_first else "{simulator}"
    spoken = provider if is_first else "openai"
    return _DEPLOYMENT.format(
        region=region,
        role=role,
        provider=spoken,
        base_url=base if spoken in _KEYS else f"{base}/v1",
        key_env=_KEYS.get(spoken, "OPENAI_API_KEY"),
        window=kind.first_window if is_first else 32_000,
        timeout_s=kind.timeout_s if is_first else 60,
    )


def _config(slots: int, max_attempts: int) -> str:
    regions = [
        (f"{kind.name}-{provider}-{n}", kind, provider)
        for kind in KINDS
        for provider in PROVIDERS
        for n in range(kind.each)
    ]
    small = [f'"{region}-{role}"' for region, kind, _ in regions for role in kind.small]
    medium = [f'"{region}-{role}"' for region, kind, _ in regions for role in kind.medium]
    places = {"database_url": "{database_url}", "broker_url": "{broker_url}", "state_url": "{state_url}"}
    bounds = {"slots": slots, "max_attempts": max_attempts}
    head = _HEAD.format(**places, **bounds, small=", ".join(small), medium=", ".join(medium))
    tables = [
        _deployment(region, role, kind, provider)
        for region, kind, provider in regions
        for role in (*kind.small, *kind.medium)
    ]
    return head + "".join(tables)


@dataclass(frozen=True)
class Chain:
    """A chain of one case: its region, and the stage that runs its tasks."""

    region: str
    stage: Stage

    def submit(self, **options: Any) -> Handle[str]:
        return self.stage.client.submit(
            intent(text=f"The invoice is wrong {next(self.stage.numbers)}", require={"region": self.region}, **options)
        )

    def run(self, **options: Any) -> Outcome[str]:
        return self.submit(**options).wait(PATIENCE_S)

    def calls(self, batch_id: str) -> list[tuple[str, str, int | None]]:
        """The attempts of a batch: role of the deployment, outcome, HTTP status."""
        found = self.stage.ledger.attempts(batch_id)
        return [(row.deployment.removeprefix(f"{self.region}-"), row.outcome, row.http_status) for row in found]

    def calls_of(self, outcome: Outcome[str]) -> list[tuple[str, str, int | None]]:
        return self.calls(outcome.batch_id)

    def rests(self) -> bool:
        """Whether a task that waits for nobody passes the first deployment by."""
        return self.calls_of(self.run(urgency="interactive"))[0][0] != "first"

    def waits_s(self, handle: Handle[str]) -> float:
        """Seconds from a task's first call until it is due again, once it waits."""
        (task,) = eventually(lambda: [row for row in self.stage.ledger.tasks(handle.id) if row.not_before])
        attempt = self.stage.ledger.attempts(handle.id)[0]
        return float((task.not_before - attempt.started_at).total_seconds())

    def model(self, role: str = "first") -> str:
        return f"{self.region}-{role}"


class Stage:
    """A site with a worker for each of two tiers, and its unused chains."""

    def __init__(self, site: Site, client: Client, ledger: Ledger) -> None:
        self.site = site
        self.client = client
        self.ledger = ledger
        self.numbers = count()
        self._used: Counter[tuple[str, str]] = Counter()

    def chain(self, provider: str, *, kind: str = "plain", **faults: Any) -> Chain:
        """A chain that no case has used; its deployments have the faults that are given by role, once or in a list."""
        region = f"{kind}-{provider}-{self._used[kind, provider]}"
        self._used[kind, provider] += 1
        chain = Chain(region, self)
        listed = {role: fault if isinstance(fault, list) else [fault] for role, fault in faults.items()}
        models = {chain.model(role): {"faults": given} for role, given in listed.items()}
        self.site.simulator.configure({"models": models})
        return chain


@contextmanager
def stage_in(folder: Path, *, slots: int = 50, max_attempts: int = 10) -> Iterator[Stage]:
    """A stage whose worker of the small tier has so many slots, and whose tasks may be called so often."""
    config = _config(slots, max_attempts)
    with ExitStack() as stack:
        site = open_site(stack, folder, stack.enter_context(fresh_simulator(folder)), template=config)
        for tier in ("small", "medium"):
            site.start_worker(tier)
        with Client(config=site.config) as client:
            ledger = Ledger(site)
            stage = Stage(site, client, ledger)
            # Both workers are there before the first case: how long a task waited for one is no part of any.
            for kind, tier in (("plain", "small"), ("lenient", "medium")):
                assert stage.chain("openai", kind=kind).run(tier=tier).ok
            yield stage
            ledger.close()
