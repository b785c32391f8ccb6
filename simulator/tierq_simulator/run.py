"""Running the simulator as a process: arguments, port file, and when it ends."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import uvloop

from tierq_simulator.server import start
from tierq_simulator.settings import ConfigError, Settings


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and serve; the exit status is returned."""
    options = _parser().parse_args(argv)
    try:
        settings = _settings(options.config, options.seed)
    except (OSError, ValueError) as error:
        print(f"tierq-simulator: {error}", file=sys.stderr)
        return 2
    _raise_file_limit()
    # Requests leave no cycles behind: looking for them at the usual pace is a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    try:
        uvloop.run(serve(settings, options))
    except OSError as error:
        print(f"tierq-simulator: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve until SIGTERM, SIGINT or, where asked, the end of the parent."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.exit_with_parent:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    async with await start(settings, options.host, options.port, served_log=options.served_log) as server:
        if options.port_file:
            _write_atomically(Path(options.port_file), str(server.port))
        print(f"listening on {server.url}", flush=True)
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tierq_simulator", description="Run the simulator until it is told to end."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--config", metavar="FILE", help="JSON, as PUT /_sim/config takes it")
    parser.add_argument("--port-file", metavar="FILE", help="where to write the port once it listens")
    parser.add_argument("--seed", type=int, help="overrides the configuration's seed")
    parser.add_argument("--served-log", metavar="FILE", help="append one JSON line for each attempt answered")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin does")
    return parser


def _settings(path: str | None, seed: int | None) -> Settings:
    raw: Any = {}
    if path is not None:
        try:
            raw = orjson.loads(Path(path).read_bytes())
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{path}: not JSON: {error}") from error
    if seed is not None and isinstance(raw, dict):
        raw["seed"] = seed
    return Settings.parse(raw, folder=Path(path).resolve().parent if path else None)


def _write_atomically(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read rather than sys.stdin: its lock would stall the interpreter's end.
    while os.read(0, 65536):
        pass
    loop.call_soon_threadsafe(stop.set)
