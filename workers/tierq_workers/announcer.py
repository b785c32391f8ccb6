"""Tells waiting producers what ended, once a commit, over Redis. Without Redis they poll."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

import redis

from tierq_shared import announcements

log = logging.getLogger("tierq.worker")

_SILENT_S = 5.0
"""After a failure, announcements are left out for this long: producers poll meanwhile, and commits do not wait."""

_MAX_POSITIONS = 5_000


class Announcer:
    """Publishes positions of ended tasks by batch."""

    def __init__(self, state_url: str | None) -> None:
        self._redis = announcements.connect(state_url) if state_url else None
        self._silent_until = 0.0

    def announce(self, ended: list[tuple[str, int]]) -> None:
        """Announces ended tasks, given as (batch, position)."""
        if self._redis is None or not ended or time.monotonic() < self._silent_until:
            return
        positions: dict[str, list[int]] = defaultdict(list)
        for batch_id, position in ended:
            positions[batch_id].append(position)
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for batch_id, some in positions.items():
                for start in range(0, len(some), _MAX_POSITIONS):
                    pipeline.publish(
                        announcements.channel(batch_id), announcements.encode(some[start : start + _MAX_POSITIONS])
                    )
            pipeline.execute()
        except redis.RedisError as error:
            log.warning("ended tasks are not announced (%s); producers poll", type(error).__name__)
            self._silent_until = time.monotonic() + _SILENT_S

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()
