"""Where the state Redis keeps breakers and limits."""

from __future__ import annotations

from tierq_shared.deployments import Deployment

# One hash tag, so that a clustered Redis holds them all together.
_KEY = "tierq:{state}:"


def breaker_key(deployment: str) -> str:
    """A deployment's breaker."""
    return f"{_KEY}deployment:{deployment}"


def limit_key(deployment: Deployment) -> str:
    """The limit that a deployment draws on: the one it names, else one of its own."""
    return f"{_KEY}limit:{deployment.limit}" if deployment.limit else f"{_KEY}limit of:{deployment.name}"


def events_key(key: str) -> str:
    """What happened to the breaker or limit of this key, newest first."""
    return f"{key}:events"
