"""`PYTHONPATH=tests python -m bench.capacity`: measures a task and a worker, and writes docs/explanation/capacity.md.

`--quick` runs fewer tasks and only prints. PostgreSQL is one of the run's own, so that nobody else's WAL is counted.
"""

from __future__ import annotations

import argparse

from bench import machine, page
from bench.capacity.arithmetic import FULL, PEAK, SCALES, TIERS, Need, need, servers
from bench.capacity.measuring import IN_FLIGHT, INPUT_BYTES, LATENCY_MS, Measured, measure
from bench.report import shown
from bench.stack import Stack

TASKS = 20_000
_KEPT = ("tierq_task", "tierq_decision")
_LEDGER = ("tierq_attempt",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks; prints and writes nothing")
    options = parser.parse_args()
    with Stack() as stack:
        measured = measure(stack, 2_000 if options.quick else TASKS)
        about = dict(machine.description(stack.servers()))
    sections = {"measured": _measured(measured, about), "tables": _tables(measured), "scales": _scales(measured)}
    print(*sections.values(), sep="\n\n")
    if not options.quick:
        for name, text in sections.items():
            page.write_section(name, text)


def _measured(found: Measured, about: dict[str, str]) -> str:
    head = (
        f"`make capacity` on {about['CPU']}, {about['date']}: {found.tasks:,} `Classify` tasks of "
        f"{INPUT_BYTES} bytes of input, with a key each, through one worker process with {IN_FLIGHT} slots, against a "
        f"simulated provider that takes {LATENCY_MS:,} ms. {found.rate:,.0f} tasks/s, of the {IN_FLIGHT} that the "
        f"latency allows."
    )
    rows = [
        ("SQL, one task, with indexes", f"{found.bytes_a_task / 1000:.1f} KB"),
        ("of it the input and the output", f"{found.of_tables('tierq_payload') / 1000:.1f} KB"),
        ("of it the ledger", f"{found.of_tables(*_LEDGER) / 1000:.1f} KB"),
        ("of it what no retention removes", f"{found.of_tables(*_KEPT) / 1000:.1f} KB"),
        ("WAL, one task", f"{found.wal_bytes / found.tasks / 1000:.1f} KB"),
        ("CPU of the worker, one task", _ms(found.worker_cpu_s, found)),
        ("CPU of PostgreSQL, one task", _ms(found.database_cpu_s, found)),
        ("CPU of Redis, one task", _ms(found.redis_cpu_s, found)),
        ("memory of a worker process, most", f"{found.peak.rss_mb:.0f} MB"),
        ("its connections to PostgreSQL, most seen", f"{found.peak.database}"),
        ("its connections to Redis, most seen", f"{found.peak.redis}"),
    ]
    return f"{head}\n\n{page.table(('figure', 'measured'), rows)}"


def _ms(seconds: float, found: Measured) -> str:
    return f"{seconds / found.tasks * 1000:.2f} ms"


def _tables(found: Measured) -> str:
    heads = ("table", "bytes of rows a task", "bytes of indexes a task", "both without dead rows")
    by_size = sorted(found.sizes.items(), key=lambda one: one[1].both, reverse=True)
    rows = [
        (f"`{name}`", *(f"{size / found.tasks:,.0f}" for size in (one.rows, one.indexes, found.packed[name].both)))
        for name, one in by_size
        if one.both >= found.tasks
    ]
    return page.table(heads, rows)


def _scales(found: Measured) -> str:
    mix = ", ".join(f"{one.name} {one.share:.0%} at {one.latency_s:g} s a call" for one in TIERS)
    head = (
        f"Assumed: {mix}; a busiest hour of {PEAK:g} times the mean; {IN_FLIGHT} slots a worker process, of which, and "
        f"of its core, {FULL:.0%} are used at the peak. Each row is a tier at that peak; SQL is that of one day."
    )
    return "\n\n".join([head, *(_scale(a_day, found) for a_day in SCALES)])


def _scale(a_day: int, found: Measured) -> str:
    needs = [need(tier, a_day, found) for tier in TIERS]
    for_servers = servers(a_day, found)
    heads = (
        "tier", "tasks/s", "calls in flight", "workers", "RAM", "PostgreSQL connections (at most)",
        "Redis connections", "SQL a day",
    )  # fmt: skip
    last = (
        f"All tiers: {sum(one.workers for one in needs)} workers, {_size(sum(one.ram_mb for one in needs))}, "
        f"{sum(one.connections for one in needs)} connections to PostgreSQL "
        f"({sum(one.most_connections for one in needs)} at most), {_size(sum(one.sql_mb for one in needs))} of SQL a "
        f"day. At the peak PostgreSQL uses {_little(for_servers.database_cores)} cores and writes "
        f"{_little(for_servers.wal_mb_s)} MB of WAL a second; Redis uses {_little(for_servers.redis_cores)} cores."
    )
    return f"**{a_day:,} tasks a day**\n\n{page.table(heads, map(_row, needs))}\n\n{last}"


def _row(one: Need) -> tuple[str, ...]:
    return (
        one.tier,
        shown(one.rate),
        shown(one.in_flight),
        f"{one.workers}",
        _size(one.ram_mb),
        f"{one.connections} ({one.most_connections})",
        f"{one.redis}",
        _size(one.sql_mb),
    )


def _little(value: float) -> str:
    return shown(value) if value >= 0.01 else "less than 0.01"


def _size(megabytes: float) -> str:
    for unit, size in (("TB", 1e6), ("GB", 1e3)):
        if megabytes >= size:
            return f"{megabytes / size:.1f} {unit}"
    return f"{megabytes:.0f} MB"


if __name__ == "__main__":
    main()
