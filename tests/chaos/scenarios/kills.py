"""SIGKILL of workers: at random, and at every point where something is half done."""

from __future__ import annotations

from chaos.ground import Ground
from chaos.kill_points import POINTS, VARIABLE
from chaos.registry import scenario


@scenario("kill-random", tasks=3000, quick_tasks=800)
def kill_random(ground: Ground) -> None:
    """Three workers; one after the other is killed at random and replaced"""
    ground.answers_take(100, jitter=80)
    ground.staff(3)
    ground.submit()
    steps = 8
    for step in range(steps):
        ground.until_ended((step + 1) / (steps + 2))
        ground.crew.kill_one()
        ground.fault()


@scenario("kill-points", tasks=2000, quick_tasks=800)
def kill_points(ground: Ground) -> None:
    """Workers are killed at each named point: after receipt, claim, answer, before and after commit, during a call"""
    ground.answers_take(80, jitter=30)
    passings = (2, 3) if ground.tasks == ground.scenario.tasks else (2,)
    # Both workers are armed, so that two are dead at once.
    ground.crew.armed.extend({VARIABLE: f"{point}:{passing}"} for passing in passings for point in POINTS)
    expected = len(ground.crew.armed)
    ground.staff(2)
    ground.submit()
    ground.until(lambda: ground.crew.killed >= expected)
    ground.fault(expected)
