"""A tier's worker process: Celery's threads pool, two thin tasks, and the engine between Celery's own signals."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
from importlib.metadata import version
from typing import Any

from celery import Celery, bootsteps, signals

from tierq_shared.configuration import check_calls
from tierq_shared.errors import ConfigurationError
from tierq_shared.queues import CHUNK_TASK, MARKER_TASK, Publisher, make_app, queue_name
from tierq_shared.settings import Settings
from tierq_workers.engine import RECEIVERS, Engine
from tierq_workers.json_logs import write_json
from tierq_workers.observers import make_observer
from tierq_workers.process import EX_SOFTWARE
from tierq_workers.progress import Progress
from tierq_workers.reception import Reception, refuse_compressed

log = logging.getLogger("tierq.worker")

STOP_MARGIN_S = 10.0
"""What a stopping worker has beyond its grace time, to hand back, commit and take its leave of the broker."""

_STDERR = 2

HAND_BACK_S = 5.0
"""What it has after that. Containers must be given grace and both of these before they are killed."""

FETCH_TICK_S = 0.02
"""With prefetching disabled, Celery's Redis consumer looks for a free thread only when its event loop wakes, and
nothing wakes it when one becomes free: measured, it slept up to a second with work waiting. So a timer wakes it."""


class FetchTick(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Wakes Celery's event loop often enough that free threads are seen."""

    requires = ("celery.worker.components:Timer",)

    def start(self, worker: Any) -> None:
        worker.timer.call_repeatedly(FETCH_TICK_S, lambda: None)


def run_worker(settings: Settings, tier: str, *, loglevel: str = "WARNING", log_format: str = "text") -> None:
    """Serves a tier until the process is told to stop (TERM). ``log_format``: `text` or `json`.

    Raises:
        ConfigurationError: there is no such tier, or no store or broker is configured.
    """
    if tier not in settings.tiers:
        raise ConfigurationError(f"there is no tier {tier!r}; the tiers are {', '.join(settings.tiers) or 'none'}")
    if settings.database_url is None:
        raise ConfigurationError("no database is configured: set TIERQ_DATABASE_URL or database_url")
    check_calls(settings.called(tier))
    app = make_app(settings)
    if log_format == "json":
        write_json()
    # Celery would do so after the engine has begun, and what that has to say would not be seen.
    app.log.setup_logging_subsystem(loglevel=loglevel)
    hostname = f"{tier}-{os.getpid()}@{socket.gethostname()}"
    progress = Progress(app, hostname)
    engine = Engine(settings, tier, version("tierq"), progress, Publisher(app), make_observer(settings, tier))
    app.steps["worker"].add(FetchTick)
    app.conf.worker_consumer = Reception
    refuse_compressed()
    _register_tasks(app, engine)
    _follow_signals(engine, settings.worker.grace)
    app.worker_main(
        [
            # Celery's banner is no JSON.
            *(["--quiet"] if log_format == "json" else []),
            "worker",
            "--pool=threads",
            f"--concurrency={RECEIVERS}",
            f"--queues={queue_name(tier)}",
            f"--hostname={hostname}",
            f"--loglevel={loglevel}",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def _end_after(seconds: float, engine: Engine) -> None:
    """Ends the process after a span, if it is still there: a broker that fell silent may hold Celery's farewell up."""

    def end() -> None:
        log.critical("the worker could not take its leave of the broker in time; it hands back and ends. It stood at:")
        # Names of files and functions, no values. By its number: Celery has put a proxy in stderr's place.
        faulthandler.dump_traceback(file=_STDERR, all_threads=True)
        handing_back = threading.Thread(target=engine.stop, daemon=True)
        handing_back.start()
        handing_back.join(HAND_BACK_S)
        logging.shutdown()
        os._exit(EX_SOFTWARE)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _register_tasks(app: Celery, engine: Engine) -> None:
    # The engine tells Flower how a chunk fares, so these tasks send no events of their own.
    @app.task(name=CHUNK_TASK, send_events=False, ignore_result=True)
    def chunk(message: dict[str, Any]) -> None:
        engine.accept(message)

    @app.task(name=MARKER_TASK, send_events=False, ignore_result=True)
    def marker(message: dict[str, Any]) -> None:
        engine.marker(message)


def _follow_signals(engine: Engine, grace_s: float) -> None:
    @signals.worker_init.connect(weak=False)
    def on_init(**_: Any) -> None:
        engine.start()

    @signals.worker_ready.connect(weak=False)
    def on_ready(**_: Any) -> None:
        # Now, since Celery sets a handler of its own meanwhile, which starts the process anew.
        signal.signal(signal.SIGHUP, lambda *_: engine.reload())

    @signals.worker_shutting_down.connect(weak=False)
    def on_shutting_down(**_: Any) -> None:
        _end_after(grace_s + STOP_MARGIN_S, engine)
        engine.drain()

    @signals.worker_shutdown.connect(weak=False)
    def on_shutdown(**_: Any) -> None:
        engine.stop()
