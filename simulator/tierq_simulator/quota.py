"""Requests and tokens a minute, enforced as token buckets."""

from __future__ import annotations

from dataclasses import dataclass

from tierq_simulator.settings import Resolved
from tierq_simulator.wire.base import Allowance


@dataclass(slots=True)
class Bucket:
    """Refills evenly. It holds at most ``burst_s`` seconds' worth, and never less than one request."""

    per_minute: int
    burst_s: float
    level: float
    at: float

    @property
    def capacity(self) -> float:
        """What it holds when full."""
        return max(1.0, self.per_minute * self.burst_s / 60)

    def refill(self, now: float) -> None:
        """Add what has accrued."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until the amount is there. An amount above the capacity waits for a full bucket."""
        missing = min(amount, self.capacity) - self.level
        return max(0.0, missing * 60 / self.per_minute)

    def full_in_s(self) -> float:
        """Seconds until it is full."""
        return (self.capacity - self.level) * 60 / self.per_minute


class Quotas:
    """One bucket for each scope that sets a limit: a provider's limit is shared by its models, as an account's is."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, resolved: Resolved, tokens: int, now: float) -> Allowance | None:
        """Take one request and its tokens, or say how long to wait; None where there is no limit."""
        behaviour = resolved.behaviour
        requests = self._bucket("rpm", resolved.rpm_scope, behaviour.rpm, behaviour.burst_s, now)
        amounts = self._bucket("tpm", resolved.tpm_scope, behaviour.tpm, behaviour.burst_s, now)
        if requests is None and amounts is None:
            return None
        wait_requests = requests.wait_s(1) if requests else 0.0
        wait_tokens = amounts.wait_s(tokens) if amounts else 0.0
        wait = max(wait_requests, wait_tokens)
        if wait == 0.0:
            self._take(requests, amounts, tokens)
        return _allowance(requests, amounts, wait, "requests" if wait_requests >= wait_tokens else "tokens")

    def charge(self, resolved: Resolved, tokens: int) -> None:
        """Take the answer's tokens too, once they are known; the bucket may fall below empty."""
        bucket = self._buckets.get(("tpm", resolved.tpm_scope))
        if bucket is not None:
            bucket.level -= tokens

    @staticmethod
    def _take(requests: Bucket | None, amounts: Bucket | None, tokens: int) -> None:
        if requests is not None:
            requests.level -= 1
        if amounts is not None:
            amounts.level -= tokens

    def _bucket(self, kind: str, scope: str, per_minute: int | None, burst_s: float, now: float) -> Bucket | None:
        if per_minute is None:
            return None
        bucket = self._buckets.get((kind, scope))
        if bucket is None:
            bucket = self._buckets[kind, scope] = Bucket(per_minute, burst_s, 0.0, now)
            bucket.level = bucket.capacity
        bucket.refill(now)
        return bucket


def _allowance(requests: Bucket | None, amounts: Bucket | None, wait: float, scarce: str) -> Allowance:
    def seen(bucket: Bucket | None) -> tuple[int, int, float] | None:
        return None if bucket is None else (bucket.per_minute, max(0, int(bucket.level)), bucket.full_in_s())

    return Allowance(wait, scarce, seen(requests), seen(amounts))
