"""What may become of a claim, in the words that Flower, logs and metrics show."""

from __future__ import annotations

from tierq_shared.outcomes import TERMINAL
from tierq_shared.store.outcomes import Ended, Step

TAKEN_OVER = "taken over"
"""The task was somebody else's by then: what this worker made of it did not count."""

ESCALATED = "escalated"
QUEUED_AGAIN = "queued again"

FATES = (*(str(state) for state in TERMINAL), ESCALATED, QUEUED_AGAIN, TAKEN_OVER)


def fate_of(step: Step, *, counted: bool) -> str:
    """What became of a task by the last step of its claim."""
    if not counted:
        return TAKEN_OVER
    if isinstance(step.next, Ended):
        return step.next.state
    return ESCALATED if getattr(step.next, "reason", None) else QUEUED_AGAIN
