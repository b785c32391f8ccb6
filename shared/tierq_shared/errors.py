"""The one exception tree.

::

    TierQError
    ├── NotConfigured            no configuration was found where a Client looked for it
    ├── ConfigurationError       a configuration was found and cannot be used
    ├── InvalidTask              a task was refused at submission; carries position and field
    │   └── InvalidInput         several refused rows of a file, all listed
    ├── KeyConflict              a used key came again with another payload
    ├── BatchNotFound            no batch has this id
    ├── BatchAborted             the submission of this batch failed half-way; nothing of it runs
    ├── RetryRefused             the failed tasks of this batch cannot be sent again
    ├── PolicyRefused            a version of the policy is not there, or cannot be stored or put in force
    ├── StoreError               the SQL store cannot be used as it is
    │   ├── SchemaMissing        TierQ's tables are not in this database
    │   ├── SchemaMismatch       they are, at a version this release cannot work with
    │   └── PayloadLocked        a payload is encrypted, and no key here opens it
    ├── MissingExtra             a part of TierQ that is not installed was asked for
    ├── TaskFailed               `unwrap()` on an outcome that did not succeed
    └── WaitTimeout              `wait(timeout=…)` ran out; also a TimeoutError

A task that fails is no exception: it is an `Outcome` whose `error` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tierq_shared.outcomes import TaskError


class TierQError(Exception):
    """Whatever TierQ raises is one of these."""


class NotConfigured(TierQError):
    """No configuration was found: no argument, no TIERQ_* variable, no tierq.toml here or above."""


class ConfigurationError(TierQError):
    """The configuration cannot be used; the message names the file, the line or variable, and the mend."""


class InvalidTask(TierQError):
    """A task was refused at submission, before anything was stored or spent.

    ``position`` is the task's place in its batch (0-based; None for a task on its own), ``field`` the field at fault.
    """

    def __init__(self, message: str, *, field: str | None = None, position: int | None = None) -> None:
        self.reason = message
        self.field = field
        self.position = position
        place = [f"task {position}"] if position is not None else []
        place += [f"field {field!r}"] if field else []
        super().__init__(f"{', '.join(place)}: {message}" if place else message)

    def at(self, position: int) -> InvalidTask:
        """The same refusal, with the task's place in its batch."""
        return InvalidTask(self.reason, field=self.field, position=position)


class InvalidInput(InvalidTask):
    """Rows of an input file were refused; the message lists each with file, line, field and mend."""


class KeyConflict(TierQError):
    """A key that is in use came again with another payload."""


class BatchNotFound(TierQError):
    """No batch has this id."""


class BatchAborted(TierQError):
    """The submission of this batch failed half-way: nothing of it runs. Submit it again."""


class RetryRefused(TierQError):
    """Failed tasks cannot be sent again: their batch is open, cancelled or aborted, or no task fails with this code."""


class PolicyRefused(TierQError):
    """A version of the policy is not there, or cannot be stored or put in force as it is."""


class StoreError(TierQError):
    """The SQL store cannot be used as it is."""


class SchemaMissing(StoreError):
    """TierQ's tables are not in this database: run `tierq migrate` against it."""


class SchemaMismatch(StoreError):
    """TierQ's tables are at a version that this release cannot work with."""


class PayloadLocked(StoreError):
    """A payload is encrypted, and no key that this process was given opens it."""


class MissingExtra(TierQError):
    """A part of TierQ that is not installed was asked for; the message is the line to type."""


class TaskFailed(TierQError):
    """`unwrap()` was called on an outcome that did not succeed; ``error`` says why."""

    def __init__(self, error: TaskError) -> None:
        self.error = error
        super().__init__(f"{error.code}: {error.message}")


class WaitTimeout(TierQError, TimeoutError):
    """The work was not done within the timeout; it goes on, and can be waited for again."""
