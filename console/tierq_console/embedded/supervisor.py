"""The one process that keeps an embedded stack running while any command uses it.

``python -m tierq_console.embedded.supervisor`` reads its order from stdin and detaches itself. It holds
`supervisor.lock` for its life, and leaves, having stopped everything gently, as soon as it gets `stack.lock` for
itself: then no command holds it any more.
"""

from __future__ import annotations

import logging
import logging.handlers
import operator
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial

from tierq_console.embedded import parts
from tierq_console.embedded.children import Child
from tierq_console.embedded.files import StackFiles, held, try_lock
from tierq_console.embedded.record import ChildRecord, Order, StackRecord, environment, fingerprint, is_alive
from tierq_console.embedded.redis_server import RedisServer
from tierq_shared.configuration import EmbeddedPaths
from tierq_shared.settings import Settings
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

log = logging.getLogger("tierq.stack")

TICK_S = 0.1
_UNUSED_EVERY_TICKS = 3
_CHORES_EVERY_TICKS = 50
_PART_TIMEOUT_S = 20.0
_LOCK_PATIENCE_S = 2.0
_KILL_MARGIN_S = 5.0


class Supervisor:
    """Starts the parts in their order, watches them, and stops them in the reverse order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._files = StackFiles(EmbeddedPaths(order.root))
        self._redis = RedisServer(self._files)
        self._simulator: Child | None = None
        self._flower: Child | None = None
        self._workers: list[Child] = []
        self._told_to_stop = threading.Event()
        self._record = StackRecord(
            nonce=order.nonce,
            pid=os.getpid(),
            settings_path=order.settings_path,
            fingerprint=fingerprint(order.settings, order.simulator),
            environment=environment(order.settings),
            simulator=order.simulator,
            urls=self._files.paths.urls(),
        )
        self._written = ""

    def run(self) -> None:
        """Keeps the stack until nobody uses it, or TERM."""
        self._publish()
        try:
            self._start()
            self._record.state = "running"
            self._watch()
        except Exception as error:
            log.exception("the stack failed")
            self._record.state, self._record.error = "failed", f"{type(error).__name__}: {error}"
        finally:
            self._stop()

    def stop_soon(self) -> None:
        self._told_to_stop.set()

    def _start(self) -> None:
        self._redis.ensure()
        if self._order.simulator is not None:
            self._simulator = parts.simulator(self._files, self._order.simulator)
            self._simulator.ensure()
        self._migrate()
        settings, env = self._settle_providers()
        parts.write_settings(self._files, settings)
        self._wait_for_redis()
        self._workers = [parts.worker(self._files, tier, env) for tier in settings.tiers]

    def _settle_providers(self) -> tuple[Settings, dict[str, str]]:
        """What the workers are told: the configuration as it is, or with the simulator in every provider's place."""
        settings = self._order.settings
        if self._simulator is None:
            return settings, {}
        port = parts.wait_for_port(self._simulator, self._files, _PART_TIMEOUT_S)
        self._record.simulator_port = port
        return parts.simulated(settings, port), parts.simulator_keys(settings)

    def _migrate(self) -> None:
        store = Store(self._files.paths.urls()["database_url"])
        try:
            with store.reading() as connection:
                before = schema.current(connection)
            if before != schema.HEAD:
                schema.migrate(store)
                log.info("tables brought from %s to %s", before, schema.HEAD)
        finally:
            store.close()
        self._files.paths.database.chmod(0o600)

    def _wait_for_redis(self) -> None:
        deadline = time.monotonic() + _PART_TIMEOUT_S
        while not self._redis.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"redis does not answer; see {self._files.log('redis')}")
            time.sleep(0.02)
            self._redis.ensure()
        self._redis.settle()

    def _watch(self) -> None:
        ticks = 0
        while not self._told_to_stop.wait(TICK_S if ticks else 0):
            ticks += 1
            self._keep_up()
            self._publish()
            if ticks % _CHORES_EVERY_TICKS == 0:
                self._chores()
            if ticks % _UNUSED_EVERY_TICKS == 0 and (self._is_gone() or self._is_unused()):
                return
        log.info("told to stop")

    def _keep_up(self) -> None:
        self._redis.ensure()
        self._mind_flower()
        for child in self._children():
            ended = child.ensure()
            if ended is not None and child in self._workers:
                parts.settle_workers(self._files, partial(operator.eq, ended))

    def _mind_flower(self) -> None:
        if self._flower is None and self._files.flower_wanted.exists():
            self._record.flower_port = parts.free_port(self._order.settings.flower.port)
            self._flower = parts.flower(self._files, self._record.flower_port)

    def _chores(self) -> None:
        if self._redis.answers():
            self._redis.settle()
        for child in self._children():
            child.bound_log()

    def _is_unused(self) -> bool:
        """Whether no command holds the stack; if so the lock is ours until the process ends."""
        lock = try_lock(self._files.users_lock, exclusive=True)
        if lock is not None:
            log.info("nobody uses the stack any more")
        return lock is not None

    def _is_gone(self) -> bool:
        """Whether somebody removed `.tierq/` under the running stack."""
        gone = not self._files.supervisor_lock.exists()
        if gone:
            log.warning("%s was removed", self._files.root)
        return gone

    def _children(self) -> list[Child]:
        return [child for child in (self._simulator, self._flower, *self._workers) if child is not None]

    def _publish(self) -> None:
        """Writes `stack.json` where anything changed."""
        self._record.children = {
            child.name: ChildRecord(pid=child.pid, starts=child.starts) for child in self._children()
        } | {"redis": ChildRecord(pid=self._redis.pid, starts=self._redis.starts)}
        text = self._record.model_dump_json()
        if text != self._written and self._files.root.exists():
            self._record.write(self._files)
            self._written = text

    def _stop(self) -> None:
        if self._record.state != "failed":
            self._record.state = "stopping"
        self._publish()
        # Workers first, while redis still takes what they hand back.
        for child in reversed(self._children()):
            child.terminate()
        until = time.monotonic() + self._order.settings.worker.grace + _KILL_MARGIN_S
        for child in reversed(self._children()):
            child.wait(until)
        self._redis.stop()
        with suppress(OSError):
            self._files.paths.runtime.rmdir()
        self._files.flower_wanted.unlink(missing_ok=True)
        log.info("stopped")


def main() -> None:
    """Takes the order, detaches, and supervises unless another already does."""
    order = Order.model_validate_json(sys.stdin.buffer.read())
    if os.fork():
        # Whoever ordered the stack need not stay the parent of it.
        os._exit(0)
    files = StackFiles(EmbeddedPaths(order.root))
    _log_to(files)
    lock = _wait_for_lock(files)
    if lock is None:
        return
    with held(lock):
        supervisor = Supervisor(order)
        signal.signal(signal.SIGTERM, lambda *_: supervisor.stop_soon())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        parts.settle_workers(files, lambda pid: not is_alive(pid))
        supervisor.run()


def _wait_for_lock(files: StackFiles) -> int | None:
    """The supervisor's lock; None where another supervisor has it. Commands that look at it hold it for a moment."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        lock = try_lock(files.supervisor_lock, exclusive=True)
        if lock is not None:
            return lock
        time.sleep(0.05)
    return None


def _log_to(files: StackFiles) -> None:
    handler = logging.handlers.RotatingFileHandler(files.log("supervisor"), maxBytes=1_000_000, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


if __name__ == "__main__":
    main()
