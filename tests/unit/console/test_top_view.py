"""One frame of `tierq top`, on a small terminal and on a wide one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from tierq_console.top_figures import BatchFigures, Look, TierFigures
from tierq_console.top_view import frame, share
from tierq_shared.caps import Cap
from tierq_shared.quoting.figures import Quote, Range
from tierq_shared.store.actions import Action
from tierq_shared.store.backlog import TierBacklog
from tierq_shared.store.budgets import Budget
from tierq_shared.store.reading import Progress, TierProgress
from tierq_workers.permits.history import BreakerSeen, Condition, LimitSeen, Report

AT = datetime(2026, 1, 27, 14, 3, 21, tzinfo=UTC)
CLOCK = AT.astimezone().strftime("%H:%M:%S")


def breaker(name: str, model: str, condition: Condition = Condition.CLOSED, **known: Any) -> BreakerSeen:
    values = {"seconds": 0.0, "is_probing": False, "calls": 312, "failures": 0, "openings": 0} | known
    return BreakerSeen(name, "openai", model, {"small": 1}, f"of {name}", condition, **values)


def batch(number: int, done: int, total: int | None, **known: Any) -> Progress:
    tiers = {"small": TierProgress(succeeded=done - 3, failed=3, cost_nusd=1_234_500_000)} if done else {}
    id_ = f"0198f3a2c41{number:x}" + "0" * 20
    return Progress(id_, "running", total, tiers, unpriced=0, created_at=AT, finished_at=None, **known)


QUOTE = Quote(100_000, 0, Range(1_500_000_000, 2_000_000_000, 2_500_000_000), None, {})
LOOK = Look(
    at=AT,
    tiers={
        "small": TierFigures(TierBacklog(12_345, 75.0, 1_000, 180, 2), 400, 210.4),
        "medium": TierFigures(TierBacklog(3, 2.0, 0, 7, 1, resting_s=12.0), 200, 2.5),
        "large": TierFigures(TierBacklog(waiting=30, is_paused=True), 0, 0.0),
    },
    deployments=Report(
        [
            breaker("mini", "gpt-4o-mini"),
            breaker("haiku", "haiku", Condition.OPEN, seconds=12.3, calls=10, failures=10),
        ],
        [LimitSeen("of mini", ["mini"], 600.0, "configured", 0.97, None, None, 0.0, 0)],
    ),
    why_unknown="",
    batches=[
        BatchFigures(
            batch(2, 45_000, 100_000, label="nightly tickets", quote=QUOTE, max_cost_nusd=4_000_000_000), 210.4
        ),
        BatchFigures(batch(1, 0, None, label="[b]\x1b[31m"), 0.0, is_paused=True),
    ],
    more_batches=0,
    caps=[],
    actions=[Action(AT, "kim@ops", "limit", "limit:of mini", {"rpm": 600})],
)


def printed(look: Look, width: int, height: int = 1_000) -> list[str]:
    console = Console(width=width, record=True)
    with console.capture() as captured:
        console.print(frame(look, width, height), highlight=False)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_on_a_wide_terminal_all_is_told() -> None:
    bounds = "of $2.0000 quoted, cap $4.0000"
    assert printed(LOOK, 140) == [
        f"tierq top · {CLOCK} · 3 live workers · 187 running · 213 tasks/s",
        "tier     ready   oldest  waiting  running  slots  workers  tasks/s",
        "small   12,345  0:01:15    1,000      180    400        2      210",
        "medium       3      2 s        0        7    200        1      2.5  rests 12 s",
        "large        0                30        0      0        0      0.0  paused",
        "",
        "deployment  model               tiers    state               calls  failed  limit used",
        "haiku       openai haiku        small 1  open for 12 s more     10      10",
        "mini        openai gpt-4o-mini  small 1  closed                312                 97%",
        "",
        "batch         label                                   done  failed  tasks/s     left       cost",
        f"0198f3a2c412  nightly tickets  ███░░░░░  45,000 of 100,000       3      210  0:04:21    $1.2345  {bounds}",
        "0198f3a2c411  [b] [31m         ░░░░░░░░             0 of …              0.0   paused  $0.000000",
        "",
        "when      who      what   of             details",
        f"{CLOCK}  kim@ops  limit  limit:of mini  rpm 600",
    ]


def test_on_a_small_terminal_nothing_is_wrapped() -> None:
    lines = printed(LOOK, 80, 24)
    assert lines[6:12] == [
        "deployment  state               calls  failed  limit used",
        "haiku       open for 12 s more     10      10",
        "mini        closed                312                 97%",
        "",
        "batch         label                    done  failed  tasks/s     left       cost",
        "0198f3a2c412  night…  ███░░░░░  45% of 100k       3      210  0:04:21    $1.2345",
    ]
    assert len(lines) == 16


def many() -> Look:
    found = [BatchFigures(batch(number, 10, 100), 1.0) for number in range(15)]
    breakers = [breaker(f"d{number}", "m") for number in range(11)] + [breaker("down", "m", Condition.OPEN)]
    actions = [Action(AT - timedelta(seconds=n), "kim@ops", "pause", f"tier:t{n}", {}) for n in range(20)]
    return Look(AT, LOOK.tiers, Report(breakers, []), "", found, 40, [], actions)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 24), (200, 60)])
def test_it_fits_whatever_there_is_to_show(width: int, height: int) -> None:
    lines = printed(many(), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any(line.startswith("down") for line in lines), "what is down is among the deployments that are shown"
    *_, said = [line for line in lines if line.startswith("… ")]
    shown = sum(line.startswith("0198f3") for line in lines)
    assert said == f"… {15 - shown + 40} more"


def test_room_is_shared() -> None:
    assert share(40, (3, 4, 2, 5)) == [3, 4, 2, 5]
    assert share(16, (3, 12, 15, 20)) == [3, 5, 4, 4]
    assert share(5, (9, 9, 9, 9)) == [3, 4, 3, 2]


def test_alarms_come_first() -> None:
    cap = Cap("day", "team=search", 5_000_000_000, "wait")
    stuck = {"large": TierFigures(TierBacklog(1_204, 9.0), 0, 0.0)}
    look = Look(AT, stuck, None, "no state Redis is configured", [], 0, [(cap, Budget(5, 5, 0, AT))], [])
    lines = printed(look, 80)
    assert lines[1:3] == [
        "large: tasks are ready (1,204), and no worker is live",
        "the cap per day on team=search is reached",
    ]
    assert "deployments: no state Redis is configured" in lines
    assert "no batch is running" in lines
    assert look.json()["deployments"] is None


def test_as_json_costs_are_exact() -> None:
    found = LOOK.json()
    assert found["tiers"]["small"] == {
        "ready": 12_345, "oldest_ready_s": 75.0, "waiting": 1_000, "running": 180, "workers": 2, "resting_s": None,
        "is_paused": False, "slots": 400, "tasks_per_s": 210.4,
    }  # fmt: skip
    nightly = found["batches"][0]
    assert (nightly["cost_usd"], nightly["quoted_usd"], nightly["max_cost_usd"]) == ("1.2345", "2", "4")
    assert (nightly["done"], nightly["failed"], nightly["seconds_left"]) == (45_000, 3, 261.4)
    assert found["actions"] == [
        {
            "at": AT.isoformat(),
            "actor": "kim@ops",
            "action": "limit",
            "target": "limit:of mini",
            "details": {"rpm": 600},
        }
    ]
