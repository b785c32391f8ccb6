"""`python -m bench`: measures every figure and writes README.md. `--only NAME` and `--quick` only print."""

from __future__ import annotations

import argparse

from bench import report, throughput
from bench.stack import Stack

FIGURES = {"throughput": throughput.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=FIGURES, help="one of the figures")
    parser.add_argument("--quick", action="store_true", help="fewer tasks, one repetition")
    options = parser.parse_args()
    with Stack() as stack:
        for name, measure in FIGURES.items():
            if options.only in (None, name):
                for figure in measure(stack, quick=options.quick):
                    print(report.line(figure), flush=True)


if __name__ == "__main__":
    main()
