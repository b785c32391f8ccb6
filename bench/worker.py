"""One worker process: `python -m bench.worker CONFIG TIER`, which is what `tierq worker` does and no more."""

from __future__ import annotations

import sys
from pathlib import Path

from tierq_shared import configuration
from tierq_workers.pool import run_worker


def main() -> None:
    path, tier = sys.argv[1:]
    run_worker(configuration.load(Path(path)), tier)


if __name__ == "__main__":
    main()
