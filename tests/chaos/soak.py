"""Mixed faults for a long time, and whether anything grows that must not: `PYTHONPATH=tests python -m chaos.soak`.

A steady producer, three workers of which one is killed now and then, a provider that fails in every way. Samples go to
a CSV, verdicts to `docs/reliability.md`. `--minutes 2` is a try, too short for a verdict on memory to mean much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from sqlalchemy import func, select, text

from chaos import verdicts
from chaos.page import write_section
from chaos.sampling import Sample, Sampler
from chaos.soak_site import OUTAGE_S, OUTAGES, SLOTS, VICTIM, SoakSite, soak_site
from chaos.steady_producer import LONGEST_WAIT_S
from chaos.verdicts import Series, Verdict, sparkline
from tierq_shared.outcomes import TERMINAL
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import attempts, tasks

SAMPLE_S = 10.0
OUTAGE_EVERY_S = 180.0
KILL_EVERY_S = 600.0
VACUUM_EVERY_S = 60.0
"""Where the server's autovacuum is off, the soak does its work: an installation has it on."""
LASTING = [slot for slot in SLOTS if slot != VICTIM] + ["producer"]
"""Processes that live all the time."""
PICTURES = (
    *("tasks/s", "batch p95 s", *(f"{name} rss_mb" for name in (*SLOTS, "producer")), "redis mb", "queue length"),
    *("ready", "running", "tierq_chunk rows", "tierq_task dead", "wal mb"),
)


@dataclass
class Soak:
    """One run: what is due when, and what was seen."""

    site: SoakSite
    store: Store
    sampler: Sampler
    seconds: float
    answers: Path
    began: float = field(default_factory=time.monotonic)
    kills: int = 0
    outages: int = 0
    vacuums: int = 0
    _last: tuple[float, int] = (0.0, 0)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def watch(self, producer: subprocess.Popen[bytes]) -> None:
        """Until the producer has read all that it submitted, or has given up."""
        pids = {"producer": producer.pid}
        until = self.seconds + LONGEST_WAIT_S
        next_sample = 0.0
        while producer.poll() is None and self.elapsed < until:
            if self.elapsed < self.seconds:
                self._trouble()
            if self.elapsed >= next_sample:
                pids |= {name: process.pid for name, process in self.site.workers.items()}
                self.sampler.take(self.elapsed, pids, self._progress())
                next_sample += SAMPLE_S
            time.sleep(0.2)
        self.sampler.take(self.elapsed, {}, {})

    def _trouble(self) -> None:
        """Outages and kills, each in its time; a short run has one of each."""
        if self.elapsed > (self.outages + 0.5) * min(OUTAGE_EVERY_S, self.seconds):
            self.site.site.simulator.outage(**OUTAGES[self.outages % len(OUTAGES)], seconds=OUTAGE_S)
            self.outages += 1
        if self.elapsed > (self.kills + 0.7) * min(KILL_EVERY_S, self.seconds):
            self.site.replace_victim()
            self.kills += 1
        if self.elapsed > (self.vacuums + 1) * VACUUM_EVERY_S and not autovacuum(self.store):
            with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM (ANALYZE)"))
            self.vacuums += 1

    def _progress(self) -> Sample:
        """Ended tasks a second since the last sample, and the 95th percentile of the batches that ended meanwhile."""
        at, done = self.elapsed, read(self.answers)
        ended = sum(sum(one.get("states", {}).values()) for one in done)
        before, seen = self._last
        self._last = (at, ended)
        recent = [one["seconds"] for one in done[-30:] if "seconds" in one]
        p95 = quantiles(recent, n=20)[-1] if len(recent) > 1 else 0.0
        return {"tasks/s": (ended - seen) / (at - before) if at > before else 0.0, "batch p95 s": p95}


def read(answers: Path) -> list[dict[str, Any]]:
    """What the producer has said of its batches; a line that is being written is left for later."""
    return [json.loads(line) for line in answers.read_text().splitlines(keepends=True) if line.endswith("\n")]


def autovacuum(store: Store) -> bool:
    if store.is_sqlite:
        return True
    with store.reading() as connection:
        return str(connection.execute(text("SHOW autovacuum")).scalar_one()) == "on"


def main() -> int:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="tierq-soak-"))
    with soak_site(folder, options.store, options.broker) as site:
        store = Store(site.site.database_url)
        answers = folder / "answers.jsonl"
        sampler = Sampler(store, site.site.redis.socket, folder / "samples.csv")
        with site.producing(options.rate, options.minutes * 60, answers) as producer:
            soak = Soak(site, store, sampler, options.minutes * 60, answers)
            soak.watch(producer)
        sampler.write()
        found = [*_outcome(store, answers, options), *_level(soak)]
        store.close()
    report = _report(soak, found, options)
    print(report, f"samples and logs: {folder}", sep="\n")
    if options.page:
        write_section("soak", report)
    return 0 if all(verdict.holds for verdict in found) else 1


def _outcome(store: Store, answers: Path, options: argparse.Namespace) -> list[Verdict]:
    """What became of the tasks, by the producer and by SQL."""
    done = read(answers)
    submitted = sum(one["submitted"] for one in done)
    states: Counter[str] = sum((Counter(one.get("states", {})) for one in done), Counter())
    errors = [one["error"] for one in done if "error" in one]
    with store.reading() as connection:
        stored = connection.execute(select(func.count()).select_from(tasks)).scalar_one()
        left = connection.execute(select(func.count()).where(tasks.c.state.not_in(TERMINAL))).scalar_one()
        started = connection.execute(select(func.count()).where(attempts.c.outcome == "started")).scalar_one()
    said = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    wanted = 0.9 * options.rate * options.minutes * 60
    return [
        Verdict("the producer kept its rate", f"{submitted:,} tasks in {len(done):,} batches", submitted >= wanted),
        Verdict("none is lost", f"{stored - states.total():,} of {stored:,}", submitted == stored == states.total()),
        Verdict("all have ended", f"{left:,} have not; {said}", left == 0),
        Verdict("no reader failed", "; ".join(errors[:3]) or "none", not errors),
        Verdict("no attempt is left open in the ledger", f"{started:,}", started == 0),
    ]


def _level(soak: Soak) -> list[Verdict]:
    samples = soak.sampler.samples
    during = [sample for sample in samples if sample["at"] <= soak.seconds]
    found = [verdicts.memory(during, name) for name in LASTING]
    found += [verdicts.connections(during, f"{name} sockets", slack=30.0) for name in LASTING]
    found += [verdicts.connections(during, "redis connections"), verdicts.emptied(samples, "ready", 0)]
    if not soak.store.is_sqlite:
        found.append(verdicts.connections(during, "database connections"))
        tables = sorted(name.removesuffix(" scans") for name in during[-1] if name.endswith(" scans"))
        found += [verdicts.scans(during, table) for table in tables]
    return found


def _report(soak: Soak, found: Sequence[Verdict], options: argparse.Namespace) -> str:
    """For people, in Markdown."""
    samples = [sample for sample in soak.sampler.samples if sample["at"] <= soak.seconds]
    by_hand = f" Autovacuum is off on this server: the soak vacuumed {soak.vacuums} times." if soak.vacuums else ""
    head = f"{options.minutes:g} minutes at {options.rate} tasks/s over {options.store} and {options.broker}: "
    trouble = f"{soak.outages} outages of a provider for {OUTAGE_S:g} s, {soak.kills} workers killed.{by_hand}"
    lines = [
        head + trouble,
        "",
        "| promise | measured | |",
        "|---|---|---|",
        *(f"| {one.promise} | {one.measured} | {'holds' if one.holds else '**does not hold**'} |" for one in found),
        "",
        "```text",
        *(_picture(samples, name) for name in PICTURES),
        "```",
    ]
    return "\n".join(lines)


def _picture(samples: Sequence[Sample], name: str) -> str:
    values = Series.of(samples, name).values
    if not values:
        return f"{name:<16} not on this store"
    return f"{name:<16} {sparkline(values)}  {min(values):.1f} to {max(values):.1f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=100, help="tasks a second, one batch of them each second")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--no-page", dest="page", action="store_false", help="leave docs/reliability.md as it is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
