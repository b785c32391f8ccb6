"""Clocks that are a minute off."""

from __future__ import annotations

from chaos import clocks
from chaos.ground import Ground
from chaos.registry import scenario

OFF_S = 60


@scenario(
    "clock-skew",
    tasks=2000,
    quick_tasks=600,
    stores=("postgresql",),
    left_out="SQLite's processes share one host, and so one clock",
)
def clock_skew(ground: Ground) -> None:
    """Workers and producers on hosts whose clocks are a minute ahead, right, and a minute behind"""
    ground.answers_take(100, jitter=40)
    for off in (OFF_S, -OFF_S):
        ground.crew.hire(**{clocks.SKEW: str(off)})
    ground.staff(1)
    half = ground.tasks // 2
    producers = [ground.produce(half, **{clocks.SKEW: str(off)}) for off in (OFF_S, -OFF_S)]
    ground.fault()
    for producer in producers:
        ground.until(lambda one=producer: one.poll() is not None)
        ground.expect(producer.returncode == 0, "a producer with a wrong clock did not get every outcome once")
    ground.expect_all("succeeded")


@scenario(
    "clock-set",
    tasks=1500,
    quick_tasks=600,
    stores=("sqlite",),
    left_out="PostgreSQL's own clock is the one that counts there",
)
def clock_set(ground: Ground) -> None:
    """The host's clock, which is SQLite's, is set a minute ahead while a batch runs: every lease is over at once"""
    ground.answers_take(100, jitter=40)
    file = ground.site.folder / "clock"
    ground.crew.env[clocks.FILE] = str(file)
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.2)
    file.write_text(str(OFF_S))
    ground.fault()
    ground.expect_all("succeeded")
