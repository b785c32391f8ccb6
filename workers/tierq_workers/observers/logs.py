"""Says in the log how each call and each claim ended, at INFO. In JSON, what is said is there as fields, too."""

from __future__ import annotations

import logging
from typing import Any

from tierq_shared.money import usd
from tierq_shared.store.claims import ClaimedTask
from tierq_shared.store.ledger import AttemptResult, NewAttempt
from tierq_workers.observers.base import Observer

log = logging.getLogger("tierq.calls")


class LogObserver(Observer):
    """One line a call, one line a claim. Never what was asked or answered, nor what a provider said of it."""

    def answered(self, task: ClaimedTask, attempt: NewAttempt, result: AttemptResult) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info(
                "attempt %s of task %s: %s by %s in %d ms",
                attempt.id,
                task.id,
                result.outcome,
                attempt.deployment,
                result.latency_ms,
                extra=_of_task(task) | _of_call(attempt, result),
            )

    def ended(self, task: ClaimedTask, fate: str) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("task %s: %s", task.id, fate, extra={"event": "task", **_of_task(task), "fate": fate})


def _of_task(task: ClaimedTask) -> dict[str, Any]:
    return {"task_id": task.id, "batch_id": task.batch_id, "tier": task.tier, "epoch": task.epoch}


def _of_call(attempt: NewAttempt, result: AttemptResult) -> dict[str, Any]:
    cost, usage = usd(result.cost_nusd), result.usage
    return {
        "event": "attempt",
        "attempt_id": attempt.id,
        "ordinal": attempt.ordinal,
        "lane": attempt.lane,
        "deployment": attempt.deployment,
        "provider": attempt.provider,
        "model": attempt.model,
        "outcome": result.outcome,
        "http_status": result.http_status,
        "latency_ms": result.latency_ms,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        # A decimal as text: exact, and no float in exponents.
        "cost_usd": None if cost is None else f"{cost:f}",
    }
