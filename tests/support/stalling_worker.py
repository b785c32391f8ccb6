"""The `tierq` command whose event loop stalls on SIGUSR2: `python -m support.stalling_worker worker small`."""

from __future__ import annotations

import asyncio
import signal
import time

STALL_S = 2.5


def main() -> None:
    from tierq_workers import engine

    make = engine.new_loop

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = make()
        signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(time.sleep, STALL_S))
        return loop

    engine.new_loop = new_loop
    from tierq_console.entry import main as tierq

    tierq()


if __name__ == "__main__":
    main()
