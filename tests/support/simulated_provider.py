"""Worker processes against a provider's quota in simulated time: a minute of thousands of calls takes a second or two.

Everything that decides is the product's own, `Desk` and `decide.lua`; only clock, calls and the quota are made up.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage
from tierq_shared.outcomes import ErrorClass
from tierq_shared.settings import Limit
from tierq_workers.permits.deciders import LimitReply, LocalDecider
from tierq_workers.permits.desk import Desk, Permit
from tierq_workers.permits.keeper import REFRESH_S, TICK_S
from tierq_workers.providers.allowances import Allowance
from tierq_workers.providers.base import Completion, ProviderError

STEP_S = 0.005
ONE = "one"
"""The deployment that all call."""

_SLOTS = 200
_LATENCY_S = 0.12
_RETRY_AFTER_S = 1.0


class Clock:
    """A clock that is moved by hand; seconds."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Bucket:
    """A quota that refills evenly and holds at most ``burst_s`` seconds' worth."""

    def __init__(self, per_minute: float, burst_s: float) -> None:
        self._rate = per_minute / 60
        self._capacity = max(1.0, self._rate * burst_s)
        self.level = self._capacity

    def refill(self, seconds: float) -> None:
        self.level = min(self._capacity, self.level + seconds * self._rate)

    def has(self, amount: float) -> bool:
        return self.level >= min(amount, self._capacity)


class Provider:
    """A quota of requests or tokens a minute, which every answer tells of where ``tells``."""

    def __init__(self, *, rpm: float = 0.0, tpm: float = 0.0, burst_s: float = 1.0, tells: bool = False) -> None:
        self.rpm, self.tpm = rpm, tpm
        self._tells = tells
        self._requests = Bucket(rpm, burst_s) if rpm else None
        self._tokens = Bucket(tpm, burst_s) if tpm else None

    def refill(self, seconds: float) -> None:
        for bucket in filter(None, (self._requests, self._tokens)):
            bucket.refill(seconds)

    def answer(self, tokens: int) -> Completion | ProviderError:
        asked = [(self._requests, 1), (self._tokens, tokens)]
        if not all(bucket.has(amount) for bucket, amount in asked if bucket):
            return ProviderError(ErrorClass.RATE_LIMITED, "slow down", 429, _RETRY_AFTER_S)
        for bucket, amount in asked:
            if bucket:
                bucket.level -= amount
        return Completion("", Usage(input_tokens=tokens))

    def allowance(self) -> Allowance | None:
        if not self._tells:
            return None
        left = [int(bucket.level) if bucket else None for bucket in (self._requests, self._tokens)]
        return Allowance(self.rpm, self.tpm, *left)


@dataclass
class Process:
    """One worker process: its desk, and what it did."""

    desk: Desk
    next_tick: float
    waiting: int = 1_000
    """Tasks that wait in it, however many it begins."""
    is_alive: bool = True
    in_flight: int = 0
    synced_at: float = 0.0
    given: int = 0
    """Permits, less those it gave back."""
    begun: int = 0
    served: int = 0
    refused: int = 0
    tokens: int = 0
    trips: int = 0
    reply: LimitReply | None = None
    """The latest."""

    @property
    def held(self) -> int:
        """Permits that it has and has not used."""
        return self.given - self.begun

    def forget(self) -> None:
        """Counts anew."""
        self.served = self.refused = self.tokens = self.trips = 0


@dataclass(frozen=True)
class Figures:
    """What a span came to. Shares are parts of 1."""

    used: float
    """Of the quota."""
    refused: float
    """Of the calls."""
    least_share: float
    most_share: float
    trips: float
    """Round trips a call."""


@dataclass
class World:
    """Processes that share a decider, and call one deployment of a provider.

    ``configured`` is its `[limits]` table, ``size`` a call's tokens, ``estimate`` what is thought of them before.
    """

    provider: Provider
    configured: Mapping[str, int] = field(default_factory=dict)
    processes: int = 4
    size: Callable[[Random], int] = lambda _random: 150
    estimate: Callable[[int], float] = lambda tokens: tokens * 4 / 3

    def __post_init__(self) -> None:
        self.clock = Clock()
        self._random = Random(1)
        self._decider = LocalDecider(clock=self.clock)
        self._ends: list[tuple[float, int, Process, Permit, Completion | ProviderError, Allowance | None]] = []
        self._order = itertools.count()
        self.all = [self._process(number) for number in range(self.processes)]

    def _process(self, number: int) -> Process:
        limit = "account" if self.configured else None
        deployment = Deployment(name=ONE, provider="openai", model="m", limit=limit)
        limits = {"account": Limit(**self.configured)} if self.configured else {}
        desk = Desk([deployment], limits, holder=str(number), clock=self.clock)
        return Process(desk, self.clock.at + self._random.random() * TICK_S)

    async def measure(self, seconds: float) -> Figures:
        """Lets so many seconds pass, and counts."""
        for process in self.all:
            process.forget()
        await self.run(seconds)
        served = [process.served for process in self.all]
        count, refused = sum(served), sum(process.refused for process in self.all)
        quota = (self.provider.rpm or self.provider.tpm) * seconds / 60
        used = count if self.provider.rpm else sum(process.tokens for process in self.all)
        trips = sum(process.trips for process in self.all) / (count + refused)
        return Figures(used / quota, refused / (count + refused), min(served) / count, max(served) / count, trips)

    async def run(self, seconds: float) -> None:
        until = self.clock.at + seconds
        while self.clock.at < until:
            self.clock.at += STEP_S
            self.provider.refill(STEP_S)
            self._end_calls()
            for process in self.all:
                if process.is_alive:
                    self._begin_calls(process)
                    await self._tick(process)

    async def sync(self, process: Process) -> LimitReply:
        """One round trip; the reply for the deployment's limit."""
        asks = process.desk.asks(process.waiting)
        replies = await self._decider.decide(asks)
        process.desk.hear(asks, replies)
        process.synced_at = self.clock.at
        process.trips += 1
        process.reply = replies["limits"][0]
        process.given += int(process.reply["given"])
        return process.reply

    async def _tick(self, process: Process) -> None:
        """As the keeper does it."""
        if self.clock.at < process.next_tick:
            return
        process.next_tick = self.clock.at + TICK_S
        is_old = self.clock.at - process.synced_at >= REFRESH_S
        if process.desk.is_urgent(process.waiting) or is_old:
            await self.sync(process)

    def _begin_calls(self, process: Process) -> None:
        while process.waiting and process.in_flight < _SLOTS:
            if (process.desk.room(ONE, is_first=True) or 0) < 1:
                return
            tokens = self.size(self._random)
            permit = process.desk.ask(ONE, self.estimate(tokens))
            if not isinstance(permit, Permit):
                return
            self._call(process, permit, tokens)

    def _call(self, process: Process, permit: Permit, tokens: int) -> None:
        answer = self.provider.answer(tokens)
        is_refused = isinstance(answer, ProviderError)
        process.in_flight += 1
        process.begun += 1
        process.refused += is_refused
        process.served += not is_refused
        process.tokens += 0 if is_refused else tokens
        ends_at = self.clock.at + _LATENCY_S * (0.5 + self._random.random())
        end = (ends_at, next(self._order), process, permit, answer, self.provider.allowance())
        heapq.heappush(self._ends, end)

    def _end_calls(self) -> None:
        while self._ends and self._ends[0][0] <= self.clock.at:
            _, _, process, permit, answer, allowance = heapq.heappop(self._ends)
            process.in_flight -= 1
            if process.is_alive:
                process.desk.settle(permit, answer, allowance)
