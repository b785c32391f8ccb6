"""Measures on real parts what a task costs in PostgreSQL, WAL and CPU, and what a worker process holds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text

from bench import ours, workload
from bench.machine import cpu_seconds, rss_mb
from bench.stack import Stack
from support.servers import own_postgres
from tierq import Batch, Client, Task
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

INPUT_BYTES = 500
IN_FLIGHT = 400
LATENCY_MS = 1_000
_LOOK_S = 0.5
_LIMIT_S = 300.0

_TABLES = text(
    "SELECT relname, pg_table_size(relid) AS rows, pg_indexes_size(relid) AS indexes "
    "FROM pg_stat_user_tables WHERE relname LIKE 'tierq_%'"
)
_WAL = text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
_CONNECTIONS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes in a table and in its indexes."""

    rows: int = 0
    indexes: int = 0

    @property
    def both(self) -> int:
        return self.rows + self.indexes


@dataclass(slots=True)
class Peak:
    """The most that was seen of a worker while it worked."""

    rss_mb: float = 0.0
    database: int = 0
    redis: int = 0

    def see(self, rss_mb: float, database: int, clients: int) -> None:
        self.rss_mb = max(self.rss_mb, rss_mb)
        self.database = max(self.database, database)
        self.redis = max(self.redis, clients)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one worker process over a PostgreSQL of its own."""

    tasks: int
    rate: float
    """Tasks a second, as the provider's latency allows."""
    sizes: dict[str, Size]
    """By table, what the run has added, with the dead versions of rows that vacuum has not freed for new ones yet."""
    packed: dict[str, Size]
    """The same without any dead version."""
    wal_bytes: float
    worker_cpu_s: float
    database_cpu_s: float
    redis_cpu_s: float
    peak: Peak

    @property
    def bytes_a_task(self) -> float:
        return self.of_tables(*self.sizes)

    def of_tables(self, *names: str) -> float:
        """Bytes a task in some tables, with their indexes."""
        return sum(self.sizes[name].both for name in names) / self.tasks


def measure(stack: Stack, count: int) -> Measured:
    """Runs this many tasks through one worker; servers and worker are all this run's own."""
    with own_postgres() as server, stack.simulator(LATENCY_MS) as provider, closing(Store(server.url)) as store:
        schema.migrate(store)
        settings = stack.configure(server.url, provider, max_in_flight=IN_FLIGHT)
        with Client(settings=settings) as client:
            probe = _Probe(store, stack.socket)
            with stack.worker(settings) as worker:
                ours.warm_up(client, IN_FLIGHT)
                return probe.run(worker, lambda: client.submit_many(_tasks(count)), count)


class _Probe:
    """Looks at the servers before, during and after a run."""

    def __init__(self, store: Store, socket: Path) -> None:
        self._store = store
        self._redis = redis.Redis(unix_socket_path=str(socket))
        self._before = self._connections()
        self._postmaster = _parent(int(self._sql(text("SELECT pg_backend_pid()"))))

    def run(self, worker: subprocess.Popen[Any], submit: Callable[[], Batch[str]], count: int) -> Measured:
        peak, empty = Peak(), self._packed()
        wal, cpu, began = self._sql(_WAL), self._cpu(worker), time.monotonic()
        self._follow(submit(), worker, peak)
        rate = count / (time.monotonic() - began)
        wal_bytes = float(self._sql(_WAL) - wal)
        worker_s, database_s, redis_s = (after - before for before, after in zip(cpu, self._cpu(worker), strict=True))
        found, packed = _added(empty, self._sizes()), _added(empty, self._packed())
        return Measured(count, rate, found, packed, wal_bytes, worker_s, database_s, redis_s, peak)

    def _follow(self, batch: Batch[str], worker: subprocess.Popen[Any], peak: Peak) -> None:
        until = time.monotonic() + _LIMIT_S
        while not (progress := batch.progress()).is_over:
            if time.monotonic() > until:
                raise RuntimeError(f"the batch did not end within {_LIMIT_S:g} s: {progress}")
            self._see(peak, worker)
            time.sleep(_LOOK_S)
        if progress.succeeded != progress.total:
            raise RuntimeError(f"some tasks did not succeed: {progress}")

    def _see(self, peak: Peak, worker: subprocess.Popen[Any]) -> None:
        database, clients = self._connections()
        peak.see(rss_mb(worker.pid), database - self._before[0], clients - self._before[1])

    def _connections(self) -> tuple[int, int]:
        return int(self._sql(_CONNECTIONS)), int(self._redis.info("clients")["connected_clients"])

    def _cpu(self, worker: subprocess.Popen[Any]) -> tuple[float, float, float]:
        used = self._redis.info("cpu")
        return (
            cpu_seconds(worker.pid),
            sum(map(cpu_seconds, _family(self._postmaster))),
            float(used["used_cpu_user"]) + float(used["used_cpu_sys"]),
        )

    def _sizes(self) -> dict[str, Size]:
        with self._store.reading() as connection:
            return {row.relname: Size(row.rows, row.indexes) for row in connection.execute(_TABLES)}

    def _packed(self) -> dict[str, Size]:
        """The sizes without any dead row."""
        with self._store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM FULL"))
        return self._sizes()

    def _sql(self, statement: Any) -> Any:
        with self._store.reading() as connection:
            return connection.execute(statement).scalar_one()


def _added(before: dict[str, Size], after: dict[str, Size]) -> dict[str, Size]:
    return {
        name: Size(size.rows - before[name].rows, size.indexes - before[name].indexes) for name, size in after.items()
    }


def _tasks(count: int) -> Iterator[Task[str]]:
    return (workload.SPEC(one[:INPUT_BYTES], key=number) for number, one in enumerate(workload.texts(count)))


def _parent(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _family(pid: int) -> list[int]:
    """A process and its children. Those that come and go between two looks are not counted."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if _parent(path.parent.name) == pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
