"""A disk that is full for a while."""

from __future__ import annotations

from chaos import full_disk
from chaos.ground import Ground
from chaos.registry import scenario


@scenario(
    "disk-full",
    tasks=2000,
    quick_tasks=600,
    stores=("sqlite",),
    left_out="a PostgreSQL that cannot write stops, as in postgres-restarted",
)
def disk_full(ground: Ground) -> None:
    """SQLite's commits fail with "database or disk is full" for three seconds, then there is room again"""
    ground.answers_take(80, jitter=40)
    sign = ground.site.folder / "disk-is-full"
    ground.crew.env[full_disk.VARIABLE] = str(sign)
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.2)
    sign.touch()
    ground.until(lambda: "the store cannot be reached" in ground.site.logs())
    ground.lasts(3.0)
    sign.unlink()
    ground.fault()
    ground.expect_all("succeeded")
