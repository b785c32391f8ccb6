"""`python -m bench.routing`: judges the derivation of a policy on LLMRouter's scores, and writes README.md beside it.

No model is called. `--quick` judges one seed and only prints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.routing import page
from bench.routing.data import VARIABLE, DataMissing, folder, load

PAGE = Path(__file__).with_name("README.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--data", metavar="FOLDER", help=f"LLMRouter's data (default: {VARIABLE}, else ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="one seed; prints and writes nothing")
    options = parser.parse_args()
    try:
        write(options.data, quick=options.quick)
    except DataMissing as error:
        sys.exit(f"bench.routing: {error}")


def write(data: str | None = None, *, quick: bool = False) -> None:
    """Judges, prints the page, and writes it unless it is a quick one.

    Raises:
        DataMissing: the data is not where it was looked for.
    """
    text = page.text(load(folder(data)), seeds=1 if quick else page.SEEDS)
    print(text)
    if not quick:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
