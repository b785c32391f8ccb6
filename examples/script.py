"""Classifies a file of support tickets and counts the answers.

    python examples/script.py [tickets.csv] [how many]

Run it again, and nothing is paid again: the batch has a key, so the same submission is the same batch.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tierq import Batch, Classify, Client, Task

DATA = Path(__file__).parent / "data"

topic = Classify.spec(
    "ticket-topic",
    labels=json.loads((DATA / "tickets.labels.json").read_text(encoding="utf-8")),
    instructions="What is the customer's main matter?",
)


def read_tasks(path: Path, limit: int | None) -> Iterator[Task[str]]:
    """A task of each row, made while the batch is submitted: a file of any size needs no more memory."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in islice(csv.DictReader(file), limit):
            yield topic(row["body"], key=row["id"])


def count_answers(batch: Batch[str]) -> Counter[str]:
    """Follows the outcomes as they are committed."""
    counts: Counter[str] = Counter()
    for outcome in batch.as_completed(timeout=600):
        if outcome.error:
            print(f"{outcome.key}: {outcome.error.code}: {outcome.error.message}", file=sys.stderr)
        counts[outcome.output or "(failed)"] += 1
    return counts


def main(path: Path, limit: int | None = None) -> int:
    with Client() as client:
        batch = client.submit_many(read_tasks(path, limit), key=f"tickets:{path.name}:{limit}", tags={"app": "script"})
        for label, count in count_answers(batch).most_common():
            print(f"{count:6} {label}")
        progress = batch.progress()
        print(
            f"{progress.succeeded} of {progress.total} succeeded, {progress.cost_nusd / 1e9:.6f} USD, batch {batch.id}"
        )
    return 0 if progress.succeeded == progress.total else 1


if __name__ == "__main__":
    sys.exit(
        main(
            Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "tickets.csv",
            int(sys.argv[2]) if len(sys.argv) > 2 else None,
        )
    )
