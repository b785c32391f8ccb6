"""What processes, Redis and the database have in use, looked at every few seconds and kept as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import redis
from sqlalchemy import Connection, text

from tierq_shared.store.backlog import backlog
from tierq_shared.store.connection import Store

Sample = dict[str, float]
"""Figures by name, such as `small 1 rss_mb`; `at` is in seconds since the start."""


class Sampler:
    """Takes samples, and keeps them in memory and in a file. ``pids`` are processes by name."""

    def __init__(self, store: Store, broker: Path, file: Path) -> None:
        self.samples: list[Sample] = []
        self._store = store
        self._redis = redis.Redis(unix_socket_path=str(broker))
        self._file = file

    def take(self, at: float, pids: Mapping[str, int], extra: Mapping[str, float]) -> Sample:
        """Looks once. ``extra`` is what the caller knows."""
        sample: Sample = {"at": at, **extra}
        for name, pid in pids.items():
            sample |= {f"{name} {what}": value for what, value in _process(pid).items()}
        sample |= self._redis_figures()
        with self._store.reading() as connection:
            tiers = backlog(connection).values()
            sample["ready"] = sum(tier.ready for tier in tiers)
            sample["running"] = sum(tier.running for tier in tiers)
            sample |= _sqlite_figures(connection) if self._store.is_sqlite else _postgres_figures(connection)
        self.samples.append(sample)
        return sample

    def write(self) -> None:
        """All samples as CSV."""
        names = list(dict.fromkeys(name for sample in self.samples for name in sample))
        with self._file.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.samples)

    def _redis_figures(self) -> Sample:
        memory = self._redis.info("memory")
        queued = sum(int(self._redis.llen(key)) for key in self._redis.scan_iter("*tierq.*", _type="list"))
        connected = int(self._redis.info("clients")["connected_clients"])
        return {"redis mb": memory["used_memory"] / 2**20, "redis connections": connected, "queue length": queued}


def _process(pid: int) -> Sample:
    """RSS, file descriptors, and how many of them are sockets; nothing where the process is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        sockets = sum(target.startswith("socket:") for target in found)
        return {"rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20, "fds": len(found), "sockets": sockets}
    return {}


def _target(link: Path) -> str:
    with suppress(FileNotFoundError):
        return str(link.readlink())
    return ""


_TABLES = text(
    """
    SELECT relname, n_live_tup, n_dead_tup, seq_scan, seq_tup_read, pg_total_relation_size(relid) / 1048576.0 AS mb
    FROM pg_stat_user_tables WHERE relname LIKE 'tierq_%'
    """
)
_SERVER = text(
    """
    SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / 1048576 AS wal_mb,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections
    """
)


def _postgres_figures(connection: Connection) -> Sample:
    sample: Sample = {}
    for row in connection.execute(_TABLES):
        named = {"rows": row.n_live_tup, "dead": row.n_dead_tup, "scans": row.seq_scan, "scanned": row.seq_tup_read}
        sample |= {f"{row.relname} {what}": float(value) for what, value in (named | {"mb": row.mb}).items()}
    server = connection.execute(_SERVER).one()
    return sample | {"wal mb": float(server.wal_mb), "database connections": float(server.connections)}


def _sqlite_figures(connection: Connection) -> Sample:
    pages = connection.execute(text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"))
    chunks = connection.execute(text("SELECT count(*) FROM tierq_chunk")).scalar_one()
    return {"database mb": pages.scalar_one() / 2**20, "tierq_chunk rows": float(chunks)}
