"""From what one task and one worker cost to what a number of tasks a day takes. Arithmetic, and nothing measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.capacity.measuring import IN_FLIGHT, Measured

DAY_S = 86_400
PEAK = 3.0
"""The busiest hour's rate ÷ the day's mean."""
FULL = 0.7
"""How much of its slots and of its core a worker is meant to use at the peak."""
MOST_CONNECTIONS = 15
"""That one worker process may open to PostgreSQL: its pool, and the overflow of it."""


@dataclass(frozen=True, slots=True)
class Tier:
    """An assumed tier: how much of the work it has, and how long its calls take."""

    name: str
    share: float
    latency_s: float


TIERS = (Tier("small", 0.80, 1.0), Tier("medium", 0.15, 3.0), Tier("large", 0.05, 10.0))
SCALES = (10_000, 1_000_000, 100_000_000)


@dataclass(frozen=True, slots=True)
class Need:
    """What one tier takes at its peak."""

    tier: str
    rate: float
    """Tasks a second at the peak."""
    in_flight: float
    """Calls under way, by Little's law."""
    workers: int
    ram_mb: float
    connections: int
    """To PostgreSQL, as measured for each worker."""
    most_connections: int
    redis: int
    sql_mb: float
    """That a day adds."""


def need(tier: Tier, a_day: int, measured: Measured) -> Need:
    """What a tier takes of so many tasks a day in all."""
    rate = a_day * tier.share / DAY_S * PEAK
    in_flight = rate * tier.latency_s
    by_slots = in_flight / (IN_FLIGHT * FULL)
    by_core = rate * measured.worker_cpu_s / measured.tasks / FULL
    workers = max(1, math.ceil(max(by_slots, by_core)))
    return Need(
        tier=tier.name,
        rate=rate,
        in_flight=in_flight,
        workers=workers,
        ram_mb=workers * measured.peak.rss_mb,
        connections=workers * measured.peak.database,
        most_connections=workers * MOST_CONNECTIONS,
        redis=workers * measured.peak.redis,
        sql_mb=a_day * tier.share * measured.bytes_a_task / 1e6,
    )


@dataclass(frozen=True, slots=True)
class Servers:
    """What PostgreSQL and Redis take at the peak of so many tasks a day."""

    rate: float
    database_cores: float
    redis_cores: float
    wal_mb_s: float


def servers(a_day: int, measured: Measured) -> Servers:
    rate = a_day / DAY_S * PEAK
    return Servers(
        rate=rate,
        database_cores=rate * measured.database_cpu_s / measured.tasks,
        redis_cores=rate * measured.redis_cpu_s / measured.tasks,
        wal_mb_s=rate * measured.wal_bytes / measured.tasks / 1e6,
    )
