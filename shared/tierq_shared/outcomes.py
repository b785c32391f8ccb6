"""What a caller gets back, and the words for how an attempt can end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

from tierq_shared.errors import TaskFailed
from tierq_shared.money import Usage, usd

T = TypeVar("T")


class TaskState(StrEnum):
    """`queued → running → succeeded | failed | cancelled | expired`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TERMINAL = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)


class ErrorClass(StrEnum):
    """The classes a provider's errors fall in; the class decides what happens next."""

    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    TOO_LONG = "too_long"
    REFUSED = "refused"
    INVALID_REQUEST = "invalid_request"
    INVALID_OUTPUT = "invalid_output"


class AttemptOutcome(StrEnum):
    """How an attempt stands in the ledger: one of the error classes, or one of these four."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    UNKNOWN = "unknown"
    """Sent, and no answer came: the provider may have served and charged it, so it stays charged at its worst case."""
    CANCELLED = "cancelled"
    """Written ahead, and never sent: nothing was charged."""


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task did not succeed. ``retryable`` says whether `retry` could end otherwise."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The one value a task ends in; never an exception for a failed task."""

    task_id: str
    batch_id: str
    position: int
    key: str | None
    type: str
    tags: dict[str, str]
    state: TaskState
    output: T | None = field(repr=False)
    """Never in a repr, which ends up in logs."""
    confidence: float | None
    """How sure the answer is, from 0 to 1, where it was measured; None where it was not."""
    error: TaskError | None
    tier: str
    deployment: str | None
    model: str | None
    attempts: int
    cached: bool
    usage: Usage = field(repr=False)
    cost_nusd: int | None
    """All attempts together, in nano-USD; None where any attempt is unpriced."""
    created_at: datetime
    finished_at: datetime | None

    @property
    def ok(self) -> bool:
        return self.state is TaskState.SUCCEEDED

    @property
    def cost_usd(self) -> Decimal | None:
        return usd(self.cost_nusd)

    def unwrap(self) -> T:
        """The output of a task that succeeded.

        Raises:
            TaskFailed: the task did not succeed.
        """
        if self.ok and self.output is not None:
            return self.output
        raise TaskFailed(self.error or TaskError("no_output", f"the task is {self.state}", retryable=False))
