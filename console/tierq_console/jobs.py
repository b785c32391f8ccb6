"""A job: one file, how its rows become tasks, and what holds for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from tierq_console.inputs import Broken, Row, Source
from tierq_console.rows import TaskMaker
from tierq_shared.options import WhenReached
from tierq_shared.specs import PROMPT_VERSION
from tierq_shared.tasks import Task


@dataclass(frozen=True)
class Job:
    """What `tierq run` and `tierq submit` were asked to do."""

    source: Source
    maker: TaskMaker
    identity: Mapping[str, Any]
    """The options that make this job another one when they change."""
    tags: Mapping[str, str]
    deadline: datetime | timedelta | None
    skip_bad: bool
    limit: int | None
    max_cost: str | None = None
    """The cap on the batch, in USD. The same job with another cap is the same job."""
    on_cap: WhenReached | None = None

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def label(self) -> str:
        """What its batch is called."""
        return self.path.name

    @property
    def bad_path(self) -> Path:
        """Where bad rows are set aside."""
        return self.path.with_name(f"{self.path.name}.bad.jsonl")

    @cached_property
    def key(self) -> str:
        """The batch's key: the same file, content and options are the same batch, however often it is run."""
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        parts = [str(self.path.resolve()), content, PROMPT_VERSION, self.identity]
        return "run:" + hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    def rows(self) -> Iterator[Row | Broken]:
        """The file's rows, as many as were asked for."""
        return islice(self.source.rows(), self.limit)

    def place(self, row: Row | Broken) -> str:
        """Where a row stands, as `line 17`: the key of a task whose row brings none."""
        return f"{self.source.unit} {row.line}"

    def tasks(self, bad_lines: Sequence[int]) -> Iterator[Task[Any]]:
        """The tasks of all rows but the bad ones, whose places are given in order."""
        left = iter(bad_lines)
        bad = next(left, None)
        for row in self.rows():
            if row.line == bad:
                bad = next(left, None)
            elif isinstance(row, Row):
                yield self.maker.task(row, self.place(row))
