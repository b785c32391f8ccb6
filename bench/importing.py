"""`import tierq`: what a backend app pays at its start

Seconds in a fresh interpreter, files in the page cache; and whether anything that only workers or the command line
need came along.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.report import Figure, Samples
from bench.stack import Stack

SECONDS = 0.6
UNWANTED = ("httpx", "aiohttp", "tierq_workers", "alembic", "uvloop", "genai_prices", "click", "rich")
_LIMIT_S = 30.0

_CODE = """
import time
began = time.perf_counter()
import tierq
seconds = time.perf_counter() - began
import json, sys
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def measure(stack: Stack, *, quick: bool) -> list[Figure]:
    """One interpreter after the other."""
    found = [fresh(stack) for _ in range(3 if quick else 7)]
    unwanted = sorted({name for _, modules in found for name in modules if name in UNWANTED})
    looked_for = f"looked for: {', '.join(UNWANTED)}"
    note = f"loaded: {', '.join(unwanted)}" if unwanted else looked_for
    return [
        Figure("`import tierq`", "s", Samples([seconds for seconds, _ in found]), at_most=SECONDS),
        Figure("Unwanted packages loaded by it", "packages", [float(len(unwanted))], at_most=0.0, note=note),
    ]


def fresh(stack: Stack) -> tuple[float, list[str]]:
    """Seconds that the import took, and the top-level packages that were loaded after it."""
    command = [sys.executable, "-c", _CODE]
    process = stack.start(command, stack.cores.measured, stdout=subprocess.PIPE, text=True)
    answer = json.loads(stack.output_of(process, _LIMIT_S))
    return answer["seconds"], answer["modules"]
