"""Outcomes: the one value a task ends in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tierq_shared.errors import TaskFailed, TierQError
from tierq_shared.money import Usage
from tierq_shared.outcomes import TERMINAL, AttemptOutcome, ErrorClass, Outcome, TaskError, TaskState

WHEN = datetime(2030, 1, 1, tzinfo=UTC)
DONE: Outcome[Any] = Outcome(
    task_id="t",
    batch_id="b",
    position=0,
    key=None,
    type="classify",
    tags={},
    state=TaskState.SUCCEEDED,
    output="bug",
    confidence=None,
    error=None,
    tier="small",
    deployment="mini",
    model="m",
    attempts=1,
    cached=False,
    usage=Usage(),
    cost_nusd=1_500_000_000,
    created_at=WHEN,
    finished_at=WHEN,
)


@pytest.mark.parametrize("output", ["bug", "", [], {}, False, 0])
def test_unwrap_gives_the_output_however_empty(output: Any) -> None:
    assert replace(DONE, output=output).unwrap() == output


@pytest.mark.parametrize("state", sorted(set(TERMINAL) - {TaskState.SUCCEEDED}))
def test_unwrap_raises_why_a_task_failed(state: TaskState) -> None:
    error = TaskError("auth", "the key was refused", retryable=True)
    outcome = replace(DONE, state=state, output=None, error=error)
    assert not outcome.ok
    with pytest.raises(TaskFailed, match=r"^auth: the key was refused$") as caught:
        outcome.unwrap()
    assert caught.value.error is error
    assert isinstance(caught.value, TierQError)


@pytest.mark.parametrize("state", sorted(set(TaskState) - {TaskState.SUCCEEDED}))
def test_unwrap_raises_even_where_no_error_is_told(state: TaskState) -> None:
    with pytest.raises(TaskFailed, match=f"^no_output: the task is {state}$"):
        replace(DONE, state=state).unwrap()


def test_a_success_without_an_output_is_not_passed_on() -> None:
    with pytest.raises(TaskFailed, match="no_output"):
        replace(DONE, output=None).unwrap()


def test_a_cost_is_exact_or_not_known() -> None:
    assert DONE.cost_usd == Decimal("1.5")
    assert replace(DONE, cost_nusd=None).cost_usd is None


def test_states_are_their_words() -> None:
    assert {str(state) for state in TaskState} - {str(state) for state in TERMINAL} == {"queued", "running"}
    assert not set(ErrorClass) & set(AttemptOutcome)
