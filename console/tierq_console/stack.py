"""The embedded stack, as commands see it: `with running_stack(settings) as settings:` and everything is there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from tierq_console import flower_access
from tierq_console.embedded import record as stack_record
from tierq_console.embedded.files import StackFiles, held, is_locked, try_lock
from tierq_console.embedded.record import Order, StackRecord
from tierq_shared.configuration import EmbeddedPaths, check_calls, embedded_paths
from tierq_shared.errors import ConfigurationError, TierQError
from tierq_shared.ids import new_id
from tierq_shared.settings import Settings
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import workers
from tierq_shared.webhooks import read_endpoints

Notify = Callable[[str], None]

START_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.05
_RESPAWN_AFTER_S = 5.0
_GUARD_EVERY_S = 1.0
_STARTS_BEFORE_GIVING_UP = 4


class StackFailed(TierQError):
    """The embedded stack did not start; the message says which part, and where its log is."""


def _silently(_message: str) -> None:
    pass


@contextmanager
def running_stack(
    settings: Settings, *, notify: Notify = _silently, flower: bool = False, simulator: Path | None = None
) -> Iterator[Settings]:
    """Settings of a stack that runs: the configured one, untouched, else the embedded one of this folder.

    The embedded stack has one worker a tier, stays for as long as any command uses it, and is shared by those whose
    configuration is the same. ``simulator`` is the configuration of a simulator that answers instead of the providers.

    Raises:
        ConfigurationError: the stack that runs here has another configuration, or cannot run here.
        StackFailed: a part of it does not start.
    """
    if settings.database_url is not None:
        yield settings
        return
    files = stack_files(settings)
    _refuse_without_tiers(settings)
    if simulator is None:
        check_calls(settings.deployments.values())
    read_endpoints(settings.webhooks)
    files.prepare()
    order = _order(files, settings, simulator)
    with ExitStack() as cleanup:
        cleanup.enter_context(held(_shared_lock(files, notify)))
        if flower:
            flower_access.settle_password(files)
            files.flower_wanted.touch(mode=0o600)
        record = _wait_until_ready(files, order, settings, notify)
        cleanup.enter_context(_guarded(files, order))
        yield _with_urls(settings, record)


@contextmanager
def attached_stack(settings: Settings) -> Iterator[Settings]:
    """Settings of the embedded stack that runs in this folder already, which is kept while this lasts.

    Raises:
        ConfigurationError: none runs.
    """
    files = stack_files(settings)
    record = running_record(files)
    if record is None:
        raise ConfigurationError(
            "no database is configured, and no embedded stack runs here: set TIERQ_DATABASE_URL and TIERQ_BROKER_URL "
            "(or database_url and broker_url in tierq.toml), or start `tierq up` in another terminal"
        )
    with held(_shared_lock(files, _silently)):
        yield _with_urls(settings, record)


def wait_until_stopped(settings: Settings, timeout_s: float = 30.0) -> bool:
    """Whether the embedded stack that no command uses any more has stopped within this time."""
    files = stack_files(settings)
    deadline = time.monotonic() + timeout_s
    while is_locked(files.supervisor_lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def stack_files(settings: Settings) -> StackFiles:
    """The files of the embedded stack that belongs to a configuration."""
    return StackFiles(embedded_paths(settings.path))


def running_record(files: StackFiles) -> StackRecord | None:
    """What the running stack says of itself; None where none runs."""
    if not is_locked(files.supervisor_lock):
        return None
    record = stack_record.read(files)
    # Between a crash and the next supervisor's first words, the file tells of the one that is dead.
    return record if record is not None and stack_record.is_alive(record.pid) else None


def _refuse_without_tiers(settings: Settings) -> None:
    if not settings.tiers:
        where = f"{settings.path} names no tiers" if settings.path else "there is no tierq.toml here or above"
        raise ConfigurationError(f"{where}: `tierq init` writes one, `tierq demo` needs none")


def _order(files: StackFiles, settings: Settings, simulator: Path | None) -> Order:
    return Order(
        nonce=new_id(),
        root=files.root,
        settings=settings.model_copy(update={"database_url": None, "broker_url": None, "state_url": None}),
        settings_path=settings.path,
        simulator=simulator.resolve() if simulator else None,
    )


def _with_urls(settings: Settings, record: StackRecord) -> Settings:
    return settings.model_copy(update={name: SecretStr(url) for name, url in record.urls.items()})


def _shared_lock(files: StackFiles, notify: Notify) -> int:
    """This command's share of the stack. A supervisor that is about to leave is waited for."""
    told = False
    while True:
        lock = try_lock(files.users_lock, exclusive=False)
        if lock is not None:
            return lock
        if not told:
            notify("waiting for the former stack to stop")
            told = True
        time.sleep(_LOOK_EVERY_S)


def _wait_until_ready(files: StackFiles, order: Order, settings: Settings, notify: Notify) -> StackRecord:
    deadline = time.monotonic() + START_TIMEOUT_S
    spawned_at: float | None = None
    while time.monotonic() < deadline:
        record = running_record(files)
        if record is not None:
            stack_record.refuse_another(record, settings, order.simulator)
            _raise_crash(files, record)
            if _is_ready(record, settings):
                return record
        elif not is_locked(files.supervisor_lock):
            _raise_failure(files, order)
            if spawned_at is None or time.monotonic() - spawned_at > _RESPAWN_AFTER_S:
                notify(f"starting the embedded stack in {files.root}")
                _spawn(order)
                spawned_at = time.monotonic()
        time.sleep(_LOOK_EVERY_S)
    raise StackFailed(f"the embedded stack did not start in {START_TIMEOUT_S:g} s; see {files.log('supervisor')}")


def _is_ready(record: StackRecord, settings: Settings) -> bool:
    """Whether each tier's worker of this very stack holds a lease: a dead one's may still be running out."""
    pids = {child.pid for name, child in record.children.items() if name.startswith("worker-") and child.pid}
    if record.state != "running" or not pids:
        return False
    live = select(workers.c.tier).where(
        workers.c.pid.in_(pids), workers.c.lease_until > now(), workers.c.stopped_at.is_(None)
    )
    store = Store(record.urls["database_url"])
    try:
        with store.reading() as connection:
            return set(settings.tiers) <= set(connection.execute(live).scalars())
    except DBAPIError:
        return False
    finally:
        store.close()


def _raise_crash(files: StackFiles, record: StackRecord) -> None:
    for name, child in record.children.items():
        if name != "flower" and child.starts >= _STARTS_BEFORE_GIVING_UP and child.pid is None:
            log_file = files.log(name)
            raise StackFailed(f"{name} ends again and again; its log, {log_file}, ends with:\n{_tail(log_file)}")


def _raise_failure(files: StackFiles, order: Order) -> None:
    record = stack_record.read(files)
    if record is not None and record.nonce == order.nonce and record.state == "failed":
        raise StackFailed(f"the embedded stack did not start: {record.error}; see {files.log('supervisor')}")


def _tail(file: Path, lines: int = 8) -> str:
    try:
        return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(nothing)"


def _spawn(order: Order) -> None:
    """Starts a supervisor, which detaches itself. Where another is faster, it ends by itself."""
    log_file = StackFiles(EmbeddedPaths(order.root)).log("supervisor")
    with log_file.open("ab") as output:
        subprocess.run(
            [sys.executable, "-m", "tierq_console.embedded.supervisor"],
            input=order.model_dump_json(exclude={"settings": stack_record.URL_NAMES}).encode(),
            stdout=output,
            stderr=output,
            cwd=order.root.parent,
            start_new_session=True,
            check=True,
        )


@contextmanager
def _guarded(files: StackFiles, order: Order) -> Iterator[None]:
    """Starts the supervisor again where it was killed under a running command."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_GUARD_EVERY_S):
            if files.root.exists() and not is_locked(files.supervisor_lock):
                _spawn(order)
                over.wait(_RESPAWN_AFTER_S)

    guard = threading.Thread(target=watch, name="tierq-stack-guard", daemon=True)
    guard.start()
    try:
        yield
    finally:
        over.set()
        guard.join()
