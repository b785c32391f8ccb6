"""The demo's work: the project's own examples, as tasks of all four types."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tierq import Answer, Classify, Extract, Generate, Task
from tierq_shared.errors import MissingExtra
from tierq_shared.options import Stakes

_HIGH_STAKES = {"cancellation"}
"""A wrong answer to someone who leaves is dear: such tickets go to the large tier."""


def find_examples() -> Path:
    """The folder of the example data: inside the installed package, or in the checkout it was installed from."""
    packaged = Path(__file__).parent / "data"
    checkout = Path(__file__).parents[3] / "examples" / "data"
    for folder in (packaged, checkout):
        if (folder / "tickets.csv").is_file():
            return folder
    raise MissingExtra("the example data is not part of this installation: run the demo from a checkout")


def example_tasks(folder: Path) -> list[Task[Any]]:
    """All examples, the types taken in turn, so that every tier has work from the start."""
    kinds: list[list[Task[Any]]] = [
        list(_tickets(folder)),
        list(_documents(folder)),
        list(_questions(folder)),
        list(_briefs(folder)),
    ]
    longest = max(map(len, kinds))
    spread = [_spread(kind, longest) for kind in kinds]
    return [task for turn in zip_longest(*spread) for task in turn if task is not None]


def _spread(tasks: list[Task[Any]], length: int) -> Iterable[Task[Any] | None]:
    """The tasks at even distances over this length."""
    places: list[Task[Any] | None] = [None] * length
    for number, task in enumerate(tasks):
        places[number * length // len(tasks)] = task
    return places


def _tickets(folder: Path) -> Iterator[Task[Any]]:
    labels = json.loads((folder / "tickets.labels.json").read_text(encoding="utf-8"))
    intent = Classify.spec("ticket-intent", labels=labels, instructions="Find out what the customer wants.")
    with (folder / "tickets.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            stakes: Stakes = "high" if row["label"] in _HIGH_STAKES else "normal"
            yield intent(text=f"{row['subject']}\n\n{row['body']}", key=row["id"], stakes=stakes)


def _documents(folder: Path) -> Iterator[Task[Any]]:
    schema = json.loads((folder / "invoice.schema.json").read_text(encoding="utf-8"))
    invoice = Extract.spec("invoice", schema=schema)
    for line in _lines(folder / "invoices.jsonl"):
        yield invoice(text=line["text"], key=line["id"])


def _questions(folder: Path) -> Iterator[Task[Any]]:
    question = Answer.spec("handbook")
    for line in _lines(folder / "questions.jsonl"):
        yield question(line["question"], line["passages"], key=line["id"])


def _briefs(folder: Path) -> Iterator[Task[Any]]:
    brief = Generate.spec("brief", instructions="Write for customers: plain and friendly.")
    for line in _lines(folder / "briefs.jsonl"):
        yield brief(f"{line['brief']}\n\nAt most {line['max_words']} words.", key=line["id"])


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
