"""The simulator: replies a second of its one process

Classifications of 2 KB with a JSON schema at no latency, over 64 connections; the load has a core of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bench.report import Figure, Samples
from bench.stack import ROOT, Stack

REPLIES_A_SECOND = 5_000.0
_LIMIT_S = 120.0


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """What `bench/simulator.py` finds."""
    requests, rounds = (5_000, 1) if quick else (40_000, 3)
    only = min(os.sched_getaffinity(0))
    server, load = stack.cores.measured or only, stack.cores.other or only
    command = [sys.executable, str(ROOT / "bench" / "simulator.py"), "--json"]
    command += ["--requests", str(requests), "--rounds", str(rounds)]
    command += ["--server-core", str(server), "--load-core", str(load)]
    process = stack.start(command, None, stdout=subprocess.PIPE, text=True)
    found = json.loads(stack.output_of(process, _LIMIT_S))
    note = f"{Samples(found['cpu_us']).median:.0f} µs of CPU a reply"
    return [Figure("Simulator", "replies/s", Samples(found["rates"]), at_least=REPLIES_A_SECOND, note=note)]
