"""TierQ for backend apps: submit typed LLM tasks, read their outcomes.

>>> from tierq import Classify, Client
>>> intent = Classify.spec("intent", labels=["billing", "bug", "praise"])
"""

from tierq.async_client import AsyncBatch, AsyncClient, AsyncHandle
from tierq.client import Client
from tierq.handles import Batch, Handle
from tierq_shared.errors import (
    BatchAborted,
    BatchNotFound,
    ConfigurationError,
    InvalidTask,
    KeyConflict,
    MissingExtra,
    NotConfigured,
    PayloadLocked,
    RetryRefused,
    SchemaMissing,
    StoreError,
    TaskFailed,
    TierQError,
    WaitTimeout,
)
from tierq_shared.outcomes import Outcome, TaskError, TaskState
from tierq_shared.quoting.figures import Quote, Range, TierQuote
from tierq_shared.store.dead_letters import Attempt, FailedTask, FailureGroup, Failures, Retried
from tierq_shared.store.forgetting import Forgotten
from tierq_shared.store.reading import Progress, TierProgress
from tierq_shared.tasks import Answer, AnswerOutput, Classify, Extract, Generate, Task

__version__ = "0.2.0"

__all__ = [
    "Answer",
    "AnswerOutput",
    "AsyncBatch",
    "AsyncClient",
    "AsyncHandle",
    "Attempt",
    "Batch",
    "BatchAborted",
    "BatchNotFound",
    "Classify",
    "Client",
    "ConfigurationError",
    "Extract",
    "FailedTask",
    "FailureGroup",
    "Failures",
    "Forgotten",
    "Generate",
    "Handle",
    "InvalidTask",
    "KeyConflict",
    "MissingExtra",
    "NotConfigured",
    "Outcome",
    "PayloadLocked",
    "Progress",
    "Quote",
    "Range",
    "Retried",
    "RetryRefused",
    "SchemaMissing",
    "StoreError",
    "Task",
    "TaskError",
    "TaskFailed",
    "TaskState",
    "TierProgress",
    "TierQError",
    "TierQuote",
    "WaitTimeout",
]
