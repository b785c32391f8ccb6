"""Outages of the servers behind TierQ: the broker forgets all or dies, the database restarts."""

from __future__ import annotations

from chaos.ground import Ground
from chaos.registry import scenario


@scenario("redis-flushed", tasks=3000, quick_tasks=1000)
def redis_flushed(ground: Ground) -> None:
    """FLUSHALL three times while a batch runs: queue, unacked messages and state are gone"""
    ground.answers_take(80, jitter=40)
    ground.staff(2)
    ground.submit()
    for share in (0.05, 0.2, 0.4):
        ground.until_ended(share)
        ground.site.redis.flush()
        ground.fault()
    _expect_losses(ground)


@scenario("redis-killed", tasks=3000, quick_tasks=1000)
def redis_killed(ground: Ground) -> None:
    """Redis is killed by SIGKILL, away for two seconds, and comes back empty"""
    ground.answers_take(80, jitter=40)
    ground.staff(2)
    ground.submit()
    ground.until_ended(0.05)
    ground.site.redis.kill()
    ground.lasts(2.0)
    ground.site.redis.start()
    ground.fault()
    _expect_losses(ground)


def _expect_losses(ground: Ground) -> None:
    """Otherwise the fault came when nothing was queued, and shows nothing."""
    ground.until_ended(1.0)
    if ground.shape.broker == "redis":
        ground.expect("lost by the broker" in ground.site.logs(), "no message was queued when Redis forgot them")


@scenario(
    "postgres-restarted",
    tasks=3000,
    quick_tasks=1000,
    stores=("postgresql",),
    left_out="SQLite has no server",
    own_postgres=True,
)
def postgres_restarted(ground: Ground) -> None:
    """PostgreSQL is stopped in immediate mode twice: once back at once, once away for longer than a lease"""
    assert ground.postgres is not None
    ground.answers_take(80, jitter=40)
    ground.staff(2)
    ground.submit()
    for share, away_s in ((0.15, 0.0), (0.4, 3.0)):
        ground.until_ended(share)
        ground.postgres.stop_at_once()
        ground.lasts(away_s)
        ground.postgres.start()
        ground.fault()
