"""Versions of the policy, and which one is active. Documents are added, never changed; the latest activation counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, func, insert, select

from tierq_shared.checks import did_you_mean
from tierq_shared.errors import PolicyRefused
from tierq_shared.ids import new_id
from tierq_shared.policy import CONFIGURED
from tierq_shared.policy_document import PolicyDocument
from tierq_shared.store.clock import now
from tierq_shared.store.submission import insert_ignoring
from tierq_shared.store.tables import leases, policies, policy_activations

CONFIG = "config"
"""Stands where a version does, and means: no version of SQL, but the policy of each process's configuration."""

_RESERVED = (CONFIG, "active")
_LEASE = "policy"

APPLIED, ROLLED_BACK, DRIFTED = "applied", "rolled back", "drift"
"""What the reason of an activation begins with."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A version was made the active one."""

    version: str
    """`config` where the configuration's own policy was put in force again."""
    reason: str
    activated_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """A version that is there, and how often and when it was made the active one."""

    version: str
    created_at: datetime
    activations: int
    activated_at: datetime | None
    """The last time."""
    is_active: bool


def store(connection: Connection, document: PolicyDocument) -> bool:
    """Keeps a version for good; False where the very same is there already.

    Raises:
        PolicyRefused: the version is there with other content, or its name has a meaning of its own.
    """
    version = document.version
    if version in _RESERVED or version.startswith(CONFIGURED):
        raise PolicyRefused(f"no version may be called {version!r}, which means the configuration's: give it another")
    row = {"version": version, "document": document.model_dump_json(), "created_at": now()}
    added = insert_ignoring(connection, policies).values(row).returning(policies.c.version)
    if connection.execute(added).first() is not None:
        return True
    if find(connection, version) != document:
        raise PolicyRefused(
            f"policy version {version} is stored already, with other content, and versions never change: "
            "give this one a version of its own"
        )
    return False


def find(connection: Connection, version: str) -> PolicyDocument | None:
    """A stored version; None where there is none.

    Raises:
        PolicyRefused: another release has stored it, in a form that this one does not know.
    """
    document = connection.execute(select(policies.c.document).where(policies.c.version == version)).scalar_one_or_none()
    try:
        return None if document is None else PolicyDocument.model_validate_json(document)
    except ValidationError:
        raise PolicyRefused(f"policy version {version} cannot be read by this release of TierQ: upgrade it") from None


def get(connection: Connection, version: str) -> PolicyDocument:
    """A stored version.

    Raises:
        PolicyRefused: there is none, or none that this release can read.
    """
    found = find(connection, version)
    if found is None:
        stored = connection.execute(select(policies.c.version)).scalars().all()
        raise PolicyRefused(
            f"no policy version {version!r} is stored{did_you_mean(version, stored)}; `tierq policy list` lists them"
        )
    return found


def activate(connection: Connection, version: str, reason: str) -> None:
    """Makes a stored version the active one; `config` hands the word back to each process's configuration.

    Raises:
        PolicyRefused: no such version is stored.
    """
    hold(connection)
    if version != CONFIG:
        get(connection, version)
    connection.execute(
        insert(policy_activations).values(id=new_id(), version=version, reason=reason, activated_at=now())
    )


def active_version(connection: Connection) -> str | None:
    """The active version; None where the configuration's own policy holds."""
    latest = select(policy_activations.c.version).order_by(*_LATEST_FIRST).limit(1)
    version = connection.execute(latest).scalar_one_or_none()
    return None if version == CONFIG else version


def active(connection: Connection) -> PolicyDocument | None:
    """The active version's document; None where the configuration's own policy holds."""
    version = active_version(connection)
    return None if version is None else get(connection, version)


def roll_back(connection: Connection, who: str) -> str | None:
    """Makes the version active that was so before the active one; it, or None for the configuration's own policy.

    Rolled back again, it goes one further back, not forth.

    Raises:
        PolicyRefused: nothing was active before.
    """
    hold(connection)
    past = _not_undone(activations(connection)[::-1])
    if not past:
        raise PolicyRefused("there is nothing to roll back to: the configuration's own policy holds, and did before")
    version = past[-2] if len(past) > 1 else CONFIG
    activate(connection, version, f"{ROLLED_BACK} by {who}, from {past[-1]}")
    return None if version == CONFIG else version


def activations(connection: Connection) -> list[Activation]:
    """All of them, the latest first."""
    rows = connection.execute(select(policy_activations).order_by(*_LATEST_FIRST))
    return [Activation(row.version, row.reason, row.activated_at) for row in rows]


def stored(connection: Connection) -> list[Stored]:
    """Every version, the latest first."""
    active_now = active_version(connection)
    counted = (
        select(
            policies.c.version,
            policies.c.created_at,
            func.count(policy_activations.c.id).label("times"),
            func.max(policy_activations.c.activated_at).label("last"),
        )
        .outerjoin(policy_activations, policy_activations.c.version == policies.c.version)
        .group_by(policies.c.version, policies.c.created_at)
        .order_by(policies.c.created_at.desc(), policies.c.version.desc())
    )
    return [
        Stored(row.version, row.created_at, row.times, row.last, row.version == active_now)
        for row in connection.execute(counted)
    ]


def hold(connection: Connection) -> None:
    """One change of what is active at a time, until this transaction ends."""
    connection.execute(insert_ignoring(connection, leases).values(name=_LEASE, holder="", until=now()))
    connection.execute(select(leases.c.name).where(leases.c.name == _LEASE).with_for_update())


_LATEST_FIRST: tuple[Any, ...] = (policy_activations.c.activated_at.desc(), policy_activations.c.id.desc())


def _not_undone(history: Sequence[Activation]) -> list[str]:
    """The versions that were activated and not rolled back since, oldest first."""
    past: list[str] = []
    for activation in history:
        if not activation.reason.startswith(ROLLED_BACK):
            past.append(activation.version)
        elif past:
            past.pop()
    return past
