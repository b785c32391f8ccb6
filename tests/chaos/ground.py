"""The ground that a scenario plays on: a site of real processes, a batch under way, and a hand on every fault."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from chaos.broker_hand import BrokerHand
from chaos.crew import Crew, python_path
from chaos.links import Links
from chaos.pulse import Pulse
from chaos.reckoning import Reckoning, is_settled, leftovers, reckon
from chaos.registry import Scenario, Shape
from chaos.tickets import tickets
from support.servers import PostgresServer, Simulator, Site, fresh_simulator, own_postgres, running
from support.sites import open_site
from support.waiting import eventually
from tierq import Batch, Client
from tierq_shared.store.connection import Store
from tierq_shared.store.leases import live_workers
from tierq_shared.store.tables import tasks

PATIENCE_S = 90.0
"""How long a run may take to come to its end after the last fault, before what is left counts as lost."""

WORKER = """
[worker]
lease = "{lease_s}s"
grace = "5s"
sweep_every = "250ms"
marker_every = "1s"
max_attempts = 50
"""


@dataclass
class Ground:
    """One run of one scenario."""

    scenario: Scenario
    shape: Shape
    site: Site
    store: Store
    """Straight to the store, past every fault in between."""
    crew: Crew
    pulse: Pulse
    rng: random.Random
    tasks: int
    """How many the run's batch has."""
    client: Client
    links: Links
    stack: ExitStack
    """Ends with the run."""
    postgres: PostgresServer | None
    """The one that is this run's own."""
    findings: list[str] = field(default_factory=list)
    submitted: int = 0
    began_at: float = field(default_factory=time.monotonic)
    fault_at: float | None = None
    faults: int = 0

    @property
    def simulator(self) -> Simulator:
        return self.site.simulator

    def answers_take(
        self, milliseconds: float, jitter: float = 0.0, faults: list[dict[str, Any]] | None = None
    ) -> None:
        """How long the simulator takes, and which faults of its own it has."""
        behaviour = {"latency_ms": milliseconds, "latency_jitter_ms": jitter, "faults": faults or []}
        self.simulator.configure({"models": {"*": behaviour}})

    def staff(self, count: int) -> None:
        """Starts workers, and waits until they and those hired before hold their leases."""
        self.crew.start(count)
        self.until(lambda: self._live() >= self.crew.size)

    def _live(self) -> int:
        with self.store.reading() as connection:
            return sum(live_workers(connection).values())

    def submit(self, count: int | None = None, client: Client | None = None, **options: Any) -> Batch[Any]:
        """Submits the run's batch, or one of another size."""
        count = self.tasks if count is None else count
        batch = (client or self.client).submit_many(tickets(self.submitted, count), **options)
        self.submitted += count
        return batch

    def until_ended(self, share: float) -> None:
        """Waits until this share of what was submitted has ended."""
        self.until(lambda: self.pulse.ended >= share * self.submitted)

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        return eventually(condition, seconds)

    def fault(self, count: int = 1) -> None:
        """Notes that a fault was done, or is over, just now."""
        self.fault_at = time.monotonic()
        self.faults += count

    def lasts(self, seconds: float) -> None:
        """A fault lasts this long."""
        time.sleep(seconds)

    def expect(self, holds: object, otherwise: str) -> None:
        """What a scenario promises beyond the zeros."""
        if not holds:
            self.findings.append(otherwise)

    def expect_all(self, state: str) -> None:
        """Waits for the end; every task ends in this state."""
        self.until_ended(1.0)
        counted = self.ledger(select(tasks.c.state, func.count()).group_by(tasks.c.state))
        self.expect([row[0] for row in counted] == [state], f"not every task {state}: {dict(map(tuple, counted))}")

    def produce(self, count: int, **env: str) -> subprocess.Popen[bytes]:
        """A producer process that submits a part of the batch and waits for it."""
        first, self.submitted = self.submitted, self.submitted + count
        return self.assist("chaos.producer", str(first), str(count), **env)

    def assist(self, module: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """A process beside the workers, for as long as the run lasts."""
        command = [sys.executable, "-m", module, *arguments]
        log = self.site.folder / f"{module.rpartition('.')[2]}.log"
        own = {"PYTHONPATH": python_path(), "TIERQ_CONFIG": str(self.site.config), **self.site.KEYS, **env}
        return self.stack.enter_context(running(command, log, own))

    @cached_property
    def broker(self) -> BrokerHand:
        return self.stack.enter_context(closing(BrokerHand(self.site.config)))

    def ledger(self, statement: Any) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(statement).all())

    def is_over(self) -> bool:
        """Whether all has ended, in the store and at the simulator."""
        with self.store.reading() as connection:
            settled = is_settled(connection)
        return settled and self.pulse.ended >= self.submitted and not self.simulator.stats()["in_flight"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    scenario: Scenario
    shape: Shape
    reckoning: Reckoning
    faults: int
    recovery_s: float | None
    """From the last fault until the last task had ended; None where a scenario has no such moment."""
    standstill_s: float
    wall_s: float
    findings: list[str]
    """What was not as promised; empty is good."""


def run(scenario: Scenario, shape: Shape, folder: Path, *, seed: int, tasks: int) -> Result:
    """Plays a scenario to its end, and reckons."""
    with open_ground(scenario, shape, folder, seed, tasks) as ground:
        try:
            scenario.play(ground)
            eventually(ground.is_over, PATIENCE_S)
        except AssertionError as error:
            ground.findings.append(f"it did not come to its end, {_place(error)}: {error}")
            with ground.store.reading() as connection:
                (folder / "left.txt").write_text("\n".join(leftovers(connection)))
        wall_s = time.monotonic() - ground.began_at
        ground.crew.stop()
        ground.pulse.stop()
        with ground.store.reading() as connection:
            reckoning = reckon(connection, ground.submitted, ground.simulator.served())
        findings = [*reckoning.findings(), *ground.findings, *ground.crew.findings]
        return Result(
            scenario, shape, reckoning, ground.faults, _recovery(ground), ground.pulse.standstill_s, wall_s, findings
        )


def _place(error: AssertionError) -> str:
    """Where a scenario waited in vain."""
    ours = [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).parent.name == "scenarios"]
    return f"at {ours[-1].line}, in {ours[-1].name}" if ours else ""


def _recovery(ground: Ground) -> float | None:
    return None if ground.fault_at is None else max(0.0, ground.pulse.changed_at - ground.fault_at)


@contextmanager
def open_ground(scenario: Scenario, shape: Shape, folder: Path, seed: int, tasks: int) -> Iterator[Ground]:
    with ExitStack() as stack:
        simulator = stack.enter_context(fresh_simulator(folder))
        postgres = None
        if scenario.own_postgres and shape.store == "postgresql":
            postgres = stack.enter_context(own_postgres())
        site = open_site(
            stack,
            folder,
            simulator,
            database=postgres.url if postgres else shape.store,
            broker=shape.broker,
            extra=WORKER.format(lease_s=scenario.lease_s),
            max_in_flight=scenario.max_in_flight,
        )
        store = Store(site.database_url)
        stack.callback(store.close)
        rng = random.Random(f"{seed} {scenario.name} {shape}")
        crew, pulse = Crew(site, rng), Pulse(store)
        client = stack.enter_context(Client(config=site.config))
        stack.callback(crew.stop)
        pulse.start()
        stack.callback(pulse.stop)
        yield Ground(scenario, shape, site, store, crew, pulse, rng, tasks, client, Links(stack, site), stack, postgres)
