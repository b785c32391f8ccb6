"""`python -m bench`: measures every figure and writes README.md. `--only NAME` and `--quick` only print."""

from __future__ import annotations

import argparse
import inspect
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import importing, in_flight, interactive, machine, replies, report, reports, submitting, throughput
from bench.routing import __main__ as routing
from bench.routing.data import DataMissing
from bench.stack import Stack

FIGURES: dict[str, Any] = {
    "throughput": throughput,
    "in-flight": in_flight,
    "submitting": submitting,
    "interactive": interactive,
    "importing": importing,
    "simulator": replies,
    "reports": reports,
}
PAGE = Path(__file__).with_name("README.md")

_LIMIT_S = 400
"""For one section: more than that is a hang, and the others are measured nevertheless."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=FIGURES, help="one of the sections")
    parser.add_argument("--quick", action="store_true", help="fewer tasks, one repetition")
    options = parser.parse_args()
    # So that `kill` and `timeout` leave no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    with Stack() as stack:
        names = [options.only] if options.only else list(FIGURES)
        sections = [_measured(stack, FIGURES[name], quick=options.quick) for name in names]
        description = machine.description(stack.servers())
    if not options.only and not options.quick:
        PAGE.write_text(report.page(sections, description, (time.monotonic() - began) / 60))
        _judge_routing()
    if any(section.failure for section in sections):
        sys.exit(1)


def _judge_routing() -> None:
    """Writes routing/README.md, where the data for it is there: none of it is part of the project."""
    try:
        routing.write()
    except DataMissing as error:
        print(f"Routing is not judged: {error}")


def _measured(stack: Stack, module: Any, *, quick: bool) -> report.Section:
    """A section's figures, printed; what goes wrong in one does not cost the others."""
    about = inspect.getdoc(module) or ""
    began = time.monotonic()
    try:
        with _time_limit(_LIMIT_S):
            section = report.Section(about, module.measure(stack, quick=quick))
    except Exception as error:
        traceback.print_exc()
        section = report.Section(about, [], f"{type(error).__name__}: {error}")
    print(f"{section.title} ({time.monotonic() - began:.0f} s)", flush=True)
    for figure in section.figures:
        print(f"  {report.line(figure)}", flush=True)
    return section


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def over(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


if __name__ == "__main__":
    main()
