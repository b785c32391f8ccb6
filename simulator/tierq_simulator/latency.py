"""How long an answer takes."""

from __future__ import annotations

import math
from statistics import NormalDist

from tierq_simulator.chance import fraction
from tierq_simulator.settings import Behaviour

_Z95 = NormalDist().inv_cdf(0.95)


def latency_s(behaviour: Behaviour, seed: int, sequence: int) -> float:
    """Seconds until the answer: even around ``latency_ms``, or lognormal by p50 and p95."""
    p50, p95 = behaviour.latency_p50_ms, behaviour.latency_p95_ms
    if p50 and p95:
        draw = min(max(fraction(seed, "latency", sequence), 1e-6), 1 - 1e-6)
        spread = math.log(max(p95 / p50, 1.0)) / _Z95
        return p50 * math.exp(spread * NormalDist().inv_cdf(draw)) / 1000
    if not behaviour.latency_jitter_ms:
        return behaviour.latency_ms / 1000
    swing = 2 * fraction(seed, "latency", sequence) - 1
    return max(0.0, behaviour.latency_ms + behaviour.latency_jitter_ms * swing) / 1000
