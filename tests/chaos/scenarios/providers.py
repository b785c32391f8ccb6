"""Outages of providers: one is down, all are down, calls hang, answers break off half-way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from chaos.ground import Ground
from chaos.registry import scenario
from tierq_shared.store.tables import attempts

OUTAGE_S = 3.0

NO_BROKER: Any = {"brokers": ("redis",), "left_out": "the broker takes no part"}


@scenario("provider-down", tasks=2000, quick_tasks=600, **NO_BROKER)
def provider_down(ground: Ground) -> None:
    """The first provider of the chain answers 503 for three seconds: the next one takes over"""
    ground.answers_take(80, jitter=40)
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.2)
    ground.simulator.outage(provider="openai", kind="overloaded", seconds=OUTAGE_S)
    ground.lasts(OUTAGE_S)
    ground.fault()
    failed_over = select(func.count()).where(attempts.c.deployment != "mini", attempts.c.outcome == "succeeded")
    ground.expect(ground.ledger(failed_over)[0][0], "nothing failed over to the next deployment")


@scenario("all-providers-down", tasks=2000, quick_tasks=600, **NO_BROKER)
def all_providers_down(ground: Ground) -> None:
    """Every provider of the chain answers 503 for three seconds: tasks wait in SQL, none fails"""
    ground.answers_take(80, jitter=40)
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.2)
    ground.simulator.outage(kind="overloaded", seconds=OUTAGE_S)
    ground.lasts(OUTAGE_S)
    ground.fault()
    ground.expect_all("succeeded")


@scenario("answers-break", tasks=2000, quick_tasks=600, **NO_BROKER)
def answers_break(ground: Ground) -> None:
    """One answer in ten is served and reset half-way, one in twenty connections is reset before, some calls hang"""
    ground.answers_take(
        80,
        jitter=40,
        faults=[
            {"kind": "reset", "where": "body", "rate": 0.1},
            {"kind": "reset", "rate": 0.05},
            {"kind": "hang", "rate": 0.005},
        ],
    )
    ground.crew.env.update(ground.links.impatient(timeout_s=OUTAGE_S / 2))
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.5)
    ground.fault()
    ground.expect_all("succeeded")
