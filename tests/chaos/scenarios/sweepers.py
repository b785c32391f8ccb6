"""Two sweepers too many."""

from __future__ import annotations

from chaos.ground import Ground
from chaos.registry import scenario


@scenario("rival-sweepers", tasks=2000, quick_tasks=600)
def rival_sweepers(ground: Ground) -> None:
    """Two more sweepers sweep all the time and mind no lease, while workers are killed and Redis forgets"""
    ground.answers_take(100, jitter=60)
    for _ in range(2):
        ground.assist("chaos.rival_sweeper")
    ground.staff(2)
    ground.submit()
    for share in (0.1, 0.25, 0.4, 0.55):
        ground.until_ended(share)
        ground.crew.kill_one()
        ground.site.redis.flush()
        ground.fault(2)
