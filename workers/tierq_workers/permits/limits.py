"""One limit as this process knows it: the permits it was given ahead of time, and what it has to report."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from tierq_workers.permits.deciders import LimitAsk, LimitReply
from tierq_workers.providers.allowances import NOTHING_SAID, Allowance

BLOCK_S = 0.1
"""Permits are asked for in blocks of this many seconds of the limit's rate: a round trip for many calls, and the other
processes' next block is never far away."""

WANTED_S = 1.0
"""A limit that no task has met for this long is not asked for, and what is left of it is given back."""

FIRST_GUESS_TOKENS = 500.0
"""What a call is taken to need until the first ones tell."""

_WEIGHT = 0.05
"""Of the latest call in running means."""

_LEAST_SCALE, _MOST_SCALE = 0.1, 10.0


@dataclass(slots=True)
class _Block:
    good_from: float
    requests: int
    tokens: float


class Limit:
    """The permits of one limit. Times are this process's monotonic clock, spans are seconds."""

    def __init__(self, key: str, rpm: float = 0.0, tpm: float = 0.0) -> None:
        self._key = key
        self._rpm = rpm
        self._tpm = tpm
        self._rate, self._token_rate, self._learned = rpm / 60, tpm / 60, 0.0
        self._told_rpm = self._told_tpm = 0.0
        self._blocks: deque[_Block] = deque()
        self._tokens = 0.0
        """Tokens on hand; a large call may leave a debt that the next blocks pay."""
        self._requests = 0
        """Permits on hand; negative after calls that could not wait."""
        self._resting_until = 0.0
        self._again_at = 0.0
        self._wanted_until = 0.0
        self._mean_tokens = FIRST_GUESS_TOKENS
        self._scale = 1.0
        self._taken = self._measured = 0
        self.cuts = 0
        """How often the rate was cut, as far as this process knows."""
        self._report = _Report()

    def configure(self, rpm: float, tpm: float) -> None:
        """Another limit from now on; 0 where none is set, and what the provider tells or what is learned holds."""
        self._rpm, self._tpm = rpm, tpm

    @property
    def _is_bounded(self) -> bool:
        return self._rate > 0 or self._token_rate > 0

    @property
    def _on_hand(self) -> int:
        return self._requests + sum(block.requests for block in self._blocks)

    @property
    def _is_empty(self) -> bool:
        """Whether no call can begin out of what it has, and nothing is on its way."""
        return not self._blocks and (self._requests <= 0 or (self._token_rate > 0 and self._tokens <= 0))

    def scaled(self, estimate: float) -> int:
        """An estimate of tokens, corrected by how earlier ones turned out."""
        return max(1, round(estimate * self._scale))

    def want(self, now: float) -> None:
        """A task would draw on it: permits are worth asking for."""
        self._wanted_until = now + WANTED_S

    def is_resting(self, now: float) -> bool:
        """Whether the provider asked everybody to wait."""
        return self._resting_until > now

    def room(self, now: float) -> float:
        """How many calls may begin now."""
        if self.is_resting(now):
            return 0
        if not self._is_bounded:
            return math.inf
        self._unpack(now)
        return max(0, self._requests) if self._tokens > 0 or not self._token_rate else 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next call may begin, as far as this process knows."""
        if self.is_resting(now):
            return self._resting_until - now
        if self.room(now):
            return 0.0
        soonest = self._blocks[0].good_from if self._blocks else self._again_at
        return max(BLOCK_S, soonest - now)

    def take(self, tokens: int) -> None:
        """One call begins, of about so many tokens."""
        self._report.sent += 1
        if self._is_bounded:
            self._requests -= 1
            self._tokens -= tokens
            self._taken += 1
            self._mean_tokens += max(_WEIGHT, 1 / self._taken) * (tokens - self._mean_tokens)

    def used(self, reserved: int, tokens: int, *, taken: bool) -> None:
        """A call has ended: what it used goes against what was reserved. ``taken``: it was not throttled."""
        self._report.taken += taken
        self._report.spent += tokens - reserved
        if tokens:
            self._measured += 1
            better = self._scale * (1 + max(_WEIGHT, 1 / self._measured) * (tokens / reserved - 1))
            self._scale = min(_MOST_SCALE, max(_LEAST_SCALE, better))

    def throttled(self, cuts: int, rest_s: float, now: float) -> None:
        """A call that began after so many cuts was refused for the rate: all rest as long as the provider asks."""
        self._report.throttled = max(self._report.throttled, cuts)
        self._report.rest = max(self._report.rest, rest_s)
        self._resting_until = max(self._resting_until, now + rest_s)

    def told(self, allowance: Allowance) -> None:
        """What the provider said of its limit with an answer."""
        self._report.allowance = allowance

    def ask(self, now: float, waiting: int) -> LimitAsk:
        """What to ask for, and to report, now."""
        report, self._report = self._report, _Report()
        requests = self._wish(now, waiting)
        told = report.allowance
        on_hand = self._tokens + sum(block.tokens for block in self._blocks)
        return {
            "key": self._key,
            "rpm": self._rpm,
            "tpm": self._tpm,
            "requests": requests,
            "is_empty": self._is_empty,
            "tokens": max(0.0, requests * self._mean_tokens - on_hand) if requests > 0 else min(0.0, -on_hand),
            "spent": float(report.spent),
            "sent": report.sent,
            "taken": report.taken,
            "told_rpm": told.requests_per_minute,
            "told_tpm": told.tokens_per_minute,
            "knew_rpm": self._told_rpm,
            "knew_tpm": self._told_tpm,
            "none_left": told.requests_left == 0,
            "no_tokens_left": told.tokens_left is not None and told.tokens_left < self._mean_tokens,
            "throttled": report.throttled,
            "rest": report.rest,
            "learned": self._learned,
        }

    def hear(self, ask: LimitAsk, reply: LimitReply, now: float) -> None:
        """The answer to what was asked."""
        self._rate, self._token_rate, self._learned = reply["rate"], reply["token_rate"], reply["learned"]
        self._told_rpm, self._told_tpm = reply["told_rpm"], reply["told_tpm"]
        self.cuts = int(reply["cuts"])
        self._resting_until = max(self._resting_until, now + reply["rest"])
        if not self._is_bounded:
            self._blocks.clear()
            self._requests, self._tokens = 0, 0.0
        elif reply["given"] > 0:
            tokens = ask["tokens"] * reply["given"] / ask["requests"]
            self._blocks.append(_Block(now + reply["delay"], int(reply["given"]), tokens))
        elif reply["given"] < 0:
            self._requests += int(reply["given"])
            self._tokens += ask["tokens"]
        elif ask["requests"] > 0:
            self._again_at = now + reply["delay"]

    def is_short(self, now: float, waiting: int) -> bool:
        """Whether asking soon would change anything."""
        return self._wish(now, waiting) != 0 or self._report.is_urgent

    def _wish(self, now: float, waiting: int) -> int:
        """Permits to ask for: one block in hand and one on its way; negative gives back."""
        if not self._is_bounded:
            return 0
        self._unpack(now)
        if now > self._wanted_until:
            return -max(0, self._requests) if self._rate else 0
        if self.is_resting(now) or (now < self._again_at and not self._is_empty):
            return 0
        rate = self._rate or self._token_rate / self._mean_tokens
        block, on_hand = max(1, math.ceil(rate * BLOCK_S)), self._on_hand
        if on_hand >= block and not self._is_empty:
            return 0
        return max(1, min(block, waiting - on_hand)) if waiting > 0 or on_hand < 0 else 0

    def _unpack(self, now: float) -> None:
        while self._blocks and self._blocks[0].good_from <= now:
            block = self._blocks.popleft()
            self._requests += block.requests
            self._tokens += block.tokens


@dataclass(slots=True)
class _Report:
    """What happened since the last ask."""

    sent: int = 0
    taken: int = 0
    spent: int = 0
    throttled: int = -1
    rest: float = 0.0
    allowance: Allowance = NOTHING_SAID

    @property
    def is_urgent(self) -> bool:
        return self.throttled >= 0
