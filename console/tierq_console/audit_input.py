"""What `tierq audit` reads: rows for the audit, and the columns that the options name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from tierq_console.file_options import text_or_file
from tierq_console.inputs import Broken, Source
from tierq_insight.audit import AuditReport, Columns
from tierq_insight.audit.auditing import Values
from tierq_shared.errors import InvalidInput


def columns_of(source: Source, given: Mapping[str, Any]) -> Columns:
    """The columns that the options name.

    Raises:
        InvalidInput: two name the same thing, the file lacks one, or a file that an option names cannot be read.
    """
    asked = [f"--{name}" for name in ("text", "prompt", "question") if given.get(name)]
    if len(asked) > 1:
        raise InvalidInput(f"{' and '.join(asked)} both name what is asked: give one of them")
    instructions = given.get("instructions")
    columns = Columns(
        **{name: given.get(name) for name in ("text", "prompt", "question", "passages", "output", "type")},
        model=given.get("model_column"),
        instructions=None if instructions is None else text_or_file(instructions, "--instructions"),
    )
    source.require_columns(columns.given())
    return columns


def rows_of(source: Source, limit: int | None) -> Iterator[Values]:
    """The rows of a file with their places, as many as are wanted."""
    for row in islice(source.rows(), limit):
        yield row.line, row.reason if isinstance(row, Broken) else row.values


def usable(source: Source, report: AuditReport) -> AuditReport:
    """The report, where any row could be read.

    Raises:
        InvalidInput: none could; the first ones are listed with the mend.
    """
    if report.total.calls:
        return report
    if not report.bad:
        raise InvalidInput(f"{source.path}: has no rows: there is nothing to audit")
    head = f"none of {report.bad:,} {source.unit}s holds a request that can be audited"
    more = report.bad - len(report.findings)
    rest = [f"  … and {more:,} more"] if more else []
    raise InvalidInput("\n".join([head, *(f"  {source.path}:{one.line}: {one}" for one in report.findings), *rest]))
