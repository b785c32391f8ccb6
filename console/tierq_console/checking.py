"""The first pass over a file: every row is read, made a task and decided on before anything is submitted."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tierq.intake import Intake
from tierq_console.inputs import Broken, Row
from tierq_console.jobs import Job
from tierq_console.seen_keys import SeenKeys
from tierq_console.setting_aside import Aside
from tierq_shared.errors import InvalidInput, InvalidTask
from tierq_shared.policy import Policy
from tierq_shared.quoting.cells import Tally
from tierq_shared.settings import Settings

SHOWN = 20
"""Bad rows that are listed; of the others there is a count."""

_TELL_EVERY = 100_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one row."""

    line: int
    field: str | None
    reason: str

    def __str__(self) -> str:
        return f"field {self.field!r}: {self.reason}" if self.field else self.reason


@dataclass(slots=True)
class Checked:
    """What the first pass found."""

    good: int = 0
    bad_lines: array[int] = field(default_factory=lambda: array("Q"))
    """The places of all bad rows in order: 8 bytes each."""
    shown: list[Finding] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """The good rows, added up for a quote."""

    @property
    def bad(self) -> int:
        return len(self.bad_lines)


def check(job: Job, settings: Settings, policy: Policy, tell: Callable[[int], None] = lambda _rows: None) -> Checked:
    """Checks every row of a job. ``tell`` is called now and then with how many have been checked.

    ``policy`` decides the tiers that the good rows are added up by.

    Raises:
        InvalidInput: the file cannot be read on, rows are bad and are not to be skipped, or none is good.
    """
    checked = Checked()
    with Aside(job.bad_path, enabled=job.skip_bad) as aside:
        for count, (row, finding) in enumerate(_findings(job, settings, policy, checked.tally), 1):
            if finding is None:
                checked.good += 1
            else:
                _note(checked, finding)
                aside.add(finding.line, finding.field, finding.reason, row)
            if count % _TELL_EVERY == 0:
                tell(count)
        _refuse(job, checked)
    return checked


def _findings(
    job: Job, settings: Settings, policy: Policy, tally: Tally
) -> Iterator[tuple[Row | Broken, Finding | None]]:
    intake = Intake(settings, policy, lambda: datetime.now(UTC), None)
    with closing(SeenKeys()) as keys:
        for row in job.rows():
            yield row, _examine(job, intake, keys, tally, row)


def _examine(job: Job, intake: Intake, keys: SeenKeys, tally: Tally, row: Row | Broken) -> Finding | None:
    if isinstance(row, Broken):
        return Finding(row.line, None, row.reason)
    try:
        new = intake.prepare(job.maker.task(row, job.place(row)), 0)
    except InvalidTask as error:
        return Finding(row.line, error.field, error.reason)
    finding = _repeated(job, keys, row.line, new) if job.maker.has_keys and new.key is not None else None
    if finding is None:
        tally.add(new)
    return finding


def _repeated(job: Job, keys: SeenKeys, line: int, new: Any) -> Finding | None:
    earlier = keys.add(new.key, line, new.payload_hash)
    if earlier is None:
        return None
    mend = "leave one of them out" if earlier.is_same else "give it a key of its own"
    what = "the same" if earlier.is_same else "another"
    first = f"{job.source.unit} {earlier.line}"
    return Finding(line, "key", f"{new.key!r} is the key of {first} already, with {what} input: {mend}")


def _note(checked: Checked, finding: Finding) -> None:
    checked.bad_lines.append(finding.line)
    if len(checked.shown) < SHOWN:
        checked.shown.append(finding)


def _refuse(job: Job, checked: Checked) -> None:
    if checked.bad and not job.skip_bad:
        raise InvalidInput(_listed(job, checked))
    if not checked.good:
        reason = f"each of its {checked.bad:,} rows is bad" if checked.bad else "has no rows"
        raise InvalidInput("\n".join([f"{job.path}: {reason}: there is nothing to run", *_lines(job, checked)]))


def _listed(job: Job, checked: Checked) -> str:
    rows = checked.good + checked.bad
    unit = job.source.unit + ("s" if rows != 1 else "")
    return "\n".join(
        [
            f"{checked.bad:,} of {rows:,} {unit} cannot be used; nothing was submitted and nothing spent",
            *_lines(job, checked),
            f"Mend them, or set them aside in {job.bad_path.name} with --skip-bad.",
        ]
    )


def _lines(job: Job, checked: Checked) -> list[str]:
    lines = [f"  {job.path}:{finding.line}: {finding}" for finding in checked.shown]
    more = checked.bad - len(checked.shown)
    return [*lines, f"  … and {more:,} more"] if more else lines
