"""Shortens two spans that no setting shortens, so that a run takes seconds where a real outage may take a minute."""

from __future__ import annotations

from functools import partial

MARKER_MARGIN_S = 1.0
"""The product takes 30: on a quiet loopback a message is received long before that."""

SWEEP_LEASE_S = 2.0
"""The product takes 10: so long nobody sweeps when the sweeping worker was killed."""


def make() -> None:
    from tierq_shared.store import leases, sweeps

    sweeps.ring_lost_chunks = partial(sweeps.ring_lost_chunks, margin_s=MARKER_MARGIN_S)
    take = leases.take
    leases.take = lambda connection, name, holder, seconds: take(connection, name, holder, min(seconds, SWEEP_LEASE_S))
