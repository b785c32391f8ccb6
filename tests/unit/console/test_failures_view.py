"""What people are told of failures and retries, on any width."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, Group

from tierq_console.failures_view import causes, sent_again
from tierq_console.status_view import Report
from tierq_shared.store.dead_letters import Attempt, FailedTask, FailureGroup, Failures, Retried
from tierq_shared.store.reading import Progress, TierProgress

BATCH = "0198f3a2c41d7e0a8b6f5d4c3b2a1900"
OVERLOADED = FailedTask(
    "0198f3a2c1d47e0a8b6f5d4c3b2a1908",
    6,
    "T7",
    "small",
    "2 calls were made; in the last claim: mini: overloaded, haiku: overloaded",
    (
        Attempt(1, "small", "mini", "m", "overloaded", 503, "[bold]busy[/bold]\x1b[31m\ncome back"),
        Attempt(2, "small", "haiku", "h", "unknown", None, None),
    ),
)
REFUSED = FailedTask("0198f3a2c1d47e0a8b6f5d4c3b2a1909", 9, None, "medium", "declined", ())
GROUPS = [
    FailureGroup("all_deployments_failed", retryable=True, tasks=1_200, example=OVERLOADED),
    FailureGroup("refused", retryable=False, tasks=1, example=REFUSED),
]
PROGRESS = Progress(
    BATCH, "finished", 5_000, {"small": TierProgress(3_797, 1_203)}, 0, datetime.now(UTC), None, "[b]tickets.csv"
)


def printed(width: int, parts: list[Any]) -> str:
    console = Console(width=width, record=True)
    with console.capture() as captured:
        console.print(Group(*parts), highlight=False)
    return captured.get()


def test_every_attempt_of_an_example_is_told() -> None:
    text = printed(160, causes(Failures(BATCH, 1_203, GROUPS, 2, 2), PROGRESS))
    assert [line.rstrip() for line in text.splitlines()] == [
        f"batch {BATCH} · [b]tickets.csv · 1,203 of 5,000 tasks failed",
        "",
        "1,200 × all_deployments_failed · may succeed another time",
        f"  such as T7 (task {OVERLOADED.task_id}), on small: {OVERLOADED.message}",
        "    #  tier   deployment  outcome     HTTP  message",
        "    1  small  mini        overloaded   503  [bold]busy[/bold] [31m come back",
        "    2  small  haiku       unknown        –",
        "",
        "1 × refused · would most likely fail again",
        f"  such as task {REFUSED.task_id}, on medium: declined",
        "    the ledger has no call of it",
        "",
        "and 2 more, of 2 other causes: see --limit",
        "",
        "`tierq retry 0198f3a2c41d` sends those again that may succeed another time",
        "`tierq retry 0198f3a2c41d --code refused` sends those with refused again",
    ]


@pytest.mark.parametrize("width", [50, 80])
def test_a_narrow_terminal_wraps_words_and_loses_none(width: int) -> None:
    lines = printed(width, causes(Failures(BATCH, 1_203, GROUPS, 0, 0), PROGRESS)).splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in ("all_deployments_failed", "mini", "haiku", "overloaded", "503", OVERLOADED.task_id, "back"):
        assert word in " ".join(words), word


def test_a_batch_without_failures_says_so() -> None:
    assert causes(Failures(BATCH, 0, [], 0, 0), PROGRESS) == [f"no task of batch {BATCH} has failed"]


@pytest.mark.parametrize(
    ("done", "lines"),
    [
        (Retried(BATCH, {"refused": 1}, {}, {}), [f"1 task is queued again: 1 × refused · batch {BATCH}"]),
        (
            Retried(BATCH, {"all_deployments_failed": 1_200, "refused": 2}, {}, {"refused": 3}),
            [
                f"1,202 tasks are queued again: 1,200 × all_deployments_failed, 2 × refused · batch {BATCH}",
                "  past the deadline, and left as failed: 3 × refused",
            ],
        ),
        (
            Retried(BATCH, {}, {"too_long": 4}, {}),
            [
                f"no task of batch {BATCH} is queued again",
                "  left out: 4 × too_long; `tierq retry 0198f3a2c41d --code too_long` sends those with too_long again",
            ],
        ),
    ],
)
def test_what_a_retry_did_and_left_out(done: Retried, lines: list[str]) -> None:
    assert list(sent_again(done)) == lines


def test_the_status_of_a_batch_with_failures_says_what_can_be_done() -> None:
    hint = "1,203 failed: `tierq failures 0198f3a2c41d` shows why, `tierq retry 0198f3a2c41d` sends them again"
    assert hint in Report(PROGRESS, [], {}, {}, {}).tables(160)
