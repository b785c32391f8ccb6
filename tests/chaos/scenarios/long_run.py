"""The long one."""

from __future__ import annotations

from chaos.ground import Ground
from chaos.registry import scenario

KILL_EVERY_S = 5.0


@scenario(
    "hundred-thousand",
    tasks=100_000,
    quick_tasks=2000,
    stores=("postgresql",),
    brokers=("redis",),
    left_out="once is enough",
    max_in_flight=100,
)
def hundred_thousand(ground: Ground) -> None:
    """100,000 tasks, SIGKILL of a random worker every five seconds, provider faults of every kind all along"""
    ground.answers_take(
        40,
        jitter=30,
        faults=[
            {"kind": "overloaded", "rate": 0.02},
            {"kind": "rate_limited", "rate": 0.0005, "retry_after_s": 0.2},
            {"kind": "reset", "where": "body", "rate": 0.01},
            {"kind": "reset", "rate": 0.01},
            {"kind": "broken_json", "rate": 0.01},
        ],
    )
    # An answer that is unusable twice escalates.
    ground.crew.hire("medium")
    ground.staff(3)
    ground.submit()
    while ground.pulse.ended < 0.95 * ground.submitted:
        ground.lasts(KILL_EVERY_S)
        ground.crew.kill_one()
        ground.fault()
