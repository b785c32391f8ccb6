"""The parts of an embedded stack that the supervisor starts, and what they are told."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from sqlalchemy import select

from tierq_console.embedded.children import Child
from tierq_console.embedded.files import StackFiles, write_private
from tierq_console.embedded.record import URL_NAMES
from tierq_console.flower_access import PASSWORD_VARIABLE, read_password
from tierq_shared.configuration import key_variable, with_embedded_urls
from tierq_shared.environment import FILE_SUFFIX
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings
from tierq_shared.store import leases, schema
from tierq_shared.store.clock import now
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import workers

SIMULATED_KEY = "simulated"


def worker(files: StackFiles, tier: str, env: dict[str, str]) -> Child:
    """A tier's worker process."""
    arguments = ["worker", tier, "--exit-with-parent", "--settings", str(files.settings)]
    return _tierq(files, f"worker-{tier}", arguments, env)


def flower(files: StackFiles, port: int) -> Child:
    """Flower on loopback; its password is in its environment, not on its command line."""
    arguments = ["flower", "--port", str(port), "--exit-with-parent", "--settings", str(files.settings)]
    env = {PASSWORD_VARIABLE: read_password(files) or "", f"{PASSWORD_VARIABLE}{FILE_SUFFIX}": ""}
    return _tierq(files, "flower", arguments, env)


def simulator(files: StackFiles, config: Path) -> Child:
    """The simulator, on a free loopback port that it keeps when it is started again."""
    port = free_port(0)
    command = [sys.executable, "-m", "tierq_simulator", "--config", str(config), "--port", str(port)]
    files.simulator.unlink(missing_ok=True)
    command += ["--exit-with-parent", "--port-file", str(files.simulator)]
    return Child("simulator", command, files.log("simulator"), files.root.parent)


def wait_for_port(child: Child, files: StackFiles, timeout_s: float) -> int:
    """The port of the simulator, once it listens.

    Raises:
        ConfigurationError: it does not start.
    """
    deadline = time.monotonic() + timeout_s
    while not files.simulator.exists():
        if child.starts > 2 or time.monotonic() > deadline:
            raise ConfigurationError(f"the simulator does not start: see {files.log('simulator')}")
        child.ensure()
        time.sleep(0.02)
    return int(files.simulator.read_text())


def simulated(settings: Settings, port: int) -> Settings:
    """The settings with every deployment at the simulator: a stack with one calls nobody else."""
    url = f"http://127.0.0.1:{port}"
    deployments = {
        name: deployment.model_copy(update={"base_url": f"{url}/v1" if "openai" in deployment.provider else url})
        for name, deployment in settings.deployments.items()
    }
    return settings.model_copy(update={"deployments": deployments})


def simulator_keys(settings: Settings) -> dict[str, str]:
    """Dummy keys, so that no real one is ever sent to the simulator, nor read from its file."""
    variables = {key_variable(deployment) for deployment in settings.deployments.values()} - {None}
    files = {f"{variable}{FILE_SUFFIX}": "" for variable in variables}
    return files | {variable: SIMULATED_KEY for variable in variables if variable}


def write_settings(files: StackFiles, settings: Settings) -> None:
    """Puts the stack's settings where its workers read them."""
    write_private(files.settings, settings.model_dump_json(exclude=URL_NAMES))


def read_settings(file: Path) -> Settings:
    """The settings of a stack, with its URLs, from the file that the supervisor wrote.

    Raises:
        ConfigurationError: there is no such file.
    """
    try:
        settings = Settings.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from None
    # The file itself stands for the configuration's: what matters of it here is the folder beside which `.tierq/` lies.
    return with_embedded_urls(settings.model_copy(update={"path": file.parent.with_name("tierq.toml")}))


def settle_workers(files: StackFiles, is_over: Callable[[int], bool]) -> None:
    """Ends the leases of this stack's workers whose process is over, so that nobody waits for them to run out."""
    if not files.paths.database.exists():
        return
    store = Store(files.paths.urls()["database_url"])
    try:
        with store.reading() as connection:
            if schema.current(connection) is None:
                return
            live = select(workers.c.id, workers.c.pid).where(
                workers.c.stopped_at.is_(None), workers.c.lease_until > now(), workers.c.host == socket.gethostname()
            )
            over = [row.id for row in connection.execute(live) if is_over(row.pid)]
        for worker_id in over:
            store.write(partial(leases.stop_worker, worker_id=worker_id))
    finally:
        store.close()


def free_port(wanted: int) -> int:
    """The wanted loopback port if it is free, else any other."""
    for port in (wanted, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
    raise OSError("no loopback port is free")


def _tierq(files: StackFiles, name: str, arguments: list[str], env: dict[str, str]) -> Child:
    command = [sys.executable, "-m", "tierq_console", *arguments]
    return Child(name, command, files.log(name), files.root.parent, env)
