"""Labelled samples out of a file: its rows are tasks as `tierq run` reads them, with a column for what is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierq_console.checking import Checked
from tierq_console.inputs import Row
from tierq_console.jobs import Job
from tierq_console.rows import ColumnTasks, TaskMaker
from tierq_insight.evaluation.expected import Expectations
from tierq_insight.evaluation.samples import Sample
from tierq_shared.tasks import Task

EXPECTED = "expected"
"""The column of the label where none is named."""


class SampleTasks:
    """Makes tasks of rows and checks their labels; it takes the place of the job's own maker."""

    def __init__(self, maker: TaskMaker, column: str) -> None:
        self.has_keys = maker.has_keys
        self.column = column
        self._maker = maker
        self._expectations = Expectations(column)

    def task(self, row: Row, place: str) -> Task[Any]:
        return self.labelled(row, place)[0]

    def labelled(self, row: Row, place: str) -> tuple[Task[Any], Any]:
        """The row's task with its label.

        Raises:
            InvalidTask: with the field at fault, by the name that the file has for it.
        """
        task = self._maker.task(self._without_label(row), place)
        return task, self._expectations.check(task, row.values.get(self.column))

    def _without_label(self, row: Row) -> Row:
        """The row as its maker knows it: a line that is a whole task may name no other fields."""
        if isinstance(self._maker, ColumnTasks):
            return row
        return Row(row.line, {name: value for name, value in row.values.items() if name != self.column})


def labelled_job(job: Job, column: str | None) -> Job:
    """The job whose rows are samples.

    Raises:
        InvalidInput: the file has no such column.
    """
    name = column or EXPECTED
    is_optional = isinstance(job.maker, ColumnTasks) and job.maker.spec.content.type == "generate" and column is None
    if not is_optional:
        job.source.require_columns({"--expected": name})
    return replace(job, maker=SampleTasks(job.maker, name))


def read_samples(job: Job, checked: Checked) -> list[Sample]:
    """The samples of a labelled job that has been checked, in the file's order, without the rows set aside."""
    maker = job.maker
    assert isinstance(maker, SampleTasks)  # noqa: S101  # `labelled_job` made it
    bad = set(checked.bad_lines)
    rows = [row for row in job.rows() if isinstance(row, Row) and row.line not in bad]
    labelled = [maker.labelled(row, job.place(row)) for row in rows]
    return [
        Sample(number, task.key or job.place(row), task, expected)
        for number, (row, (task, expected)) in enumerate(zip(rows, labelled, strict=True), 1)
    ]
