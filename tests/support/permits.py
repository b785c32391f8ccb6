"""Asks of limits and breakers, and deciders that are asked one by one, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import redis

from support.simulated_provider import Clock
from tierq_workers.permits.deciders import (
    DECIDE,
    IN_REDIS,
    KEEP_EVENTS,
    KEEP_S,
    Asks,
    BreakerAsk,
    BreakerReply,
    Decider,
    LimitAsk,
    LimitReply,
    Replies,
)
from tierq_workers.permits.keys import breaker_key

KEY = breaker_key("one")


def limit_ask(**changed: Any) -> LimitAsk:
    """An ask that wants and reports nothing, but for what is named."""
    nothing = {
        **dict.fromkeys(("rpm", "tpm", "tokens", "told_rpm", "told_tpm", "knew_rpm", "knew_tpm"), 0.0),
        **dict.fromkeys(("spent", "rest", "learned"), 0.0),
        **dict.fromkeys(("is_empty", "none_left", "no_tokens_left"), False),
        "key": KEY,
        "requests": 0,
        "sent": 0,
        "taken": 0,
        "throttled": -1,
    }
    return cast(LimitAsk, {**nothing, **changed})


def breaker_ask(holder: str = "worker a", **changed: Any) -> BreakerAsk:
    """An ask that wants and reports nothing, but for what is named."""
    nothing = {"key": KEY, "ok": 0, "failed": 0, "wants_probe": False, "probe_s": 65.0, "probe_result": "", "rest": 0.0}
    return cast(BreakerAsk, {**nothing, "holder": holder, **changed})


class ClockedRedis(Decider):
    """Decides in Redis as `RedisDecider` does, but by a clock of the test's."""

    def __init__(self, socket: Any, clock: Clock) -> None:
        assert "redis.call('TIME')" in IN_REDIS
        self._script = DECIDE + IN_REDIS.replace("redis.call('TIME')", "{ ARGV[4], 0 }")
        self._clock = clock
        self.redis = redis.Redis(unix_socket_path=str(socket))

    async def decide(self, asks: Asks) -> Replies:
        args = [orjson.dumps(asks), KEEP_S, KEEP_EVENTS, repr(self._clock())]
        replies = orjson.loads(cast(bytes, self.redis.eval(self._script, 0, *args)))
        return {"limits": replies["limits"] or [], "breakers": replies["breakers"] or []}


class Asker:
    """Asks a decider, one thing at a time."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def all(self, asks: Asks) -> Replies:
        return asyncio.run(self._decide(asks))

    def breaker(self, holder: str = "worker a", **changed: Any) -> BreakerReply:
        return self.all({"limits": [], "breakers": [breaker_ask(holder, **changed)]})["breakers"][0]

    def limit(self, **changed: Any) -> LimitReply:
        return self.all({"limits": [limit_ask(**changed)], "breakers": []})["limits"][0]

    async def _decide(self, asks: Asks) -> Replies:
        return await self._decider.decide(asks)
