"""Runs `decide.lua`: inside Redis for all processes at once, or in this process for itself alone."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any, TypedDict, cast

import lupa.lua51
import orjson
import redis
from redis.asyncio import Redis

from tierq_workers.permits.keys import events_key

TIMEOUT_S = 0.5
"""A Redis that is silent for longer is treated as gone; permits must not wait for it."""

KEEP_S = 7 * 86_400
"""How long the state of a deployment that nobody calls is kept."""

KEEP_EVENTS = 200

_OF_ALL = ("told_rpm", "told_tpm", "learned")
"""What asks and replies say of all processes together."""

DECIDE = files(__package__).joinpath("decide.lua").read_text()

IN_REDIS = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local states = {}
local function read(key)
  local raw, state = redis.call('HGETALL', key), {}
  for index = 1, #raw, 2 do state[raw[index]] = tonumber(raw[index + 1]) or raw[index + 1] end
  states[key] = state
  return state
end
local function note(key, event)
  redis.call('LPUSH', key .. ':events', cjson.encode(event))
  redis.call('LTRIM', key .. ':events', 0, ARGV[3] - 1)
  redis.call('EXPIRE', key .. ':events', ARGV[2])
end
local replies = decide(now, cjson.decode(ARGV[1]), read, note)
for key, state in pairs(states) do
  local fields = {}
  for name, value in pairs(state) do
    fields[#fields + 1] = name
    fields[#fields + 1] = type(value) == 'number' and string.format('%.17g', value) or value
  end
  redis.call('DEL', key)
  if #fields > 0 then
    redis.call('HSET', key, unpack(fields))
    redis.call('EXPIRE', key, ARGV[2])
  end
end
return cjson.encode(replies)
"""

_IN_PROCESS = """
local states = {}
local function read(key)
  states[key] = states[key] or {}
  return states[key]
end
return function(now, asks, note) return decide(now, asks, read, note) end
"""


class LimitAsk(TypedDict):
    """What a process wants of a limit, and what it learned since it asked last. Spans in seconds."""

    key: str
    rpm: float
    """As configured; 0 where none is."""
    tpm: float
    requests: int
    """Permits wanted; negative gives unused ones back."""
    is_empty: bool
    """None is on hand, nor on its way."""
    tokens: float
    spent: float
    """By how many tokens calls used more (or less) than their permits had reserved."""
    sent: int
    taken: int
    """Calls that were answered, and not with a throttle."""
    told_rpm: float
    """As a provider's headers said; 0 where they did not."""
    told_tpm: float
    knew_rpm: float
    """As this process last knew it to be told to anybody, for a Redis that does not; 0 where it was not."""
    knew_tpm: float
    none_left: bool
    no_tokens_left: bool
    throttled: int
    """How many cuts of the rate were known when the latest throttled call began; negative where none was throttled."""
    rest: float
    learned: float
    """The learned rate as this process last knew it, in calls a second; 0 where there is none."""


class LimitReply(TypedDict):
    given: int
    """Permits; of the tokens that were asked for, as great a part."""
    delay: float
    """Until what was given is good, or until it is worth asking again."""
    rate: float
    """Calls a second; 0 where nothing bounds them."""
    token_rate: float
    learned: float
    told_rpm: float
    told_tpm: float
    cuts: int
    """How often the rate was cut, to tell which calls began at an older one."""
    rest: float


class BreakerAsk(TypedDict):
    """How calls to a deployment went since this process asked last."""

    key: str
    holder: str
    ok: int
    failed: int
    wants_probe: bool
    probe_s: float
    """How long a probe may take before another process may try."""
    probe_result: str
    """`ok`, `failed`, `none` where it came to nothing, or empty while there is none."""
    rest: float


class BreakerReply(TypedDict):
    open: bool
    delay: float
    """Until it may be probed."""
    probe: bool
    """The one probe is this process's to make."""
    rest: float


class Asks(TypedDict):
    limits: list[LimitAsk]
    breakers: list[BreakerAsk]


class Replies(TypedDict):
    limits: list[LimitReply]
    breakers: list[BreakerReply]


class Decider(ABC):
    """Answers a process's asks."""

    @abstractmethod
    async def decide(self, asks: Asks) -> Replies:
        """The replies, in the order of the asks.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """


class RedisDecider(Decider):
    """Decides in Redis, by its clock, for every process that shares it. One round trip."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._script = self._redis.register_script(DECIDE + IN_REDIS)

    async def decide(self, asks: Asks) -> Replies:
        try:
            answer = await self._script(keys=_keys(asks), args=[orjson.dumps(asks), KEEP_S, KEEP_EVENTS])
        except (OSError, RuntimeError) as error:
            # uvloop says RuntimeError of a connection that was reset, and the pool would hand it out again.
            await self._redis.connection_pool.disconnect()
            raise redis.ConnectionError(type(error).__name__) from error
        # An empty Lua table has no kind, and cjson writes it as an object.
        replies = orjson.loads(answer)
        return {"limits": replies["limits"] or [], "breakers": replies["breakers"] or []}

    async def aclose(self) -> None:
        await self._redis.aclose()


class LocalDecider(Decider):
    """Decides in this process, for it alone: what everybody may do together is divided by ``processes``."""

    def __init__(self, processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.processes = processes
        self._clock = clock
        self._lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
        self._decide = self._lua.execute(DECIDE + _IN_PROCESS)

    async def decide(self, asks: Asks) -> Replies:
        share = {**asks, "limits": [self._shared(ask) for ask in asks["limits"]]}
        table = self._lua.table_from(share, recursive=True)
        replies = cast(Replies, _plain(self._decide(self._clock(), table, lambda _key, _event: None)))
        return {**replies, "limits": [self._whole(reply) for reply in replies["limits"]]}

    def _shared(self, ask: LimitAsk) -> LimitAsk:
        names = ("rpm", "tpm", "knew_rpm", "knew_tpm", *_OF_ALL)
        return cast(LimitAsk, _times(ask, names, 1 / self.processes))

    def _whole(self, reply: LimitReply) -> LimitReply:
        """What the process keeps in mind is of all processes, so that Redis may be told of it."""
        return cast(LimitReply, _times(reply, _OF_ALL, self.processes))


def _times(table: Mapping[str, Any], names: Iterable[str], factor: float) -> dict[str, Any]:
    return {**table, **{name: table[name] * factor for name in names}}


def _keys(asks: Asks) -> list[str]:
    named: list[LimitAsk | BreakerAsk] = [*asks["limits"], *asks["breakers"]]
    return [key for ask in named for key in (ask["key"], events_key(ask["key"]))]


def _plain(value: Any) -> Any:
    """A Lua table as a dictionary, or a list where its keys count from 1; an empty one is an empty list."""
    if lupa.lua51.lua_type(value) != "table":
        return value
    items = dict(value.items())
    if all(isinstance(key, int) for key in items):
        return [_plain(items[key]) for key in sorted(items)]
    return {key: _plain(one) for key, one in items.items()}
