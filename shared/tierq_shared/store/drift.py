"""Watches the active policy's rules by live evidence, and puts a version in force that moves a drifted one up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from tierq_shared import drift
from tierq_shared.errors import PolicyRefused
from tierq_shared.intervals import Interval, mean_interval
from tierq_shared.policy import Policy, Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.store import policies
from tierq_shared.store.submission import database_now
from tierq_shared.store.tables import decisions, evidence
from tierq_shared.store.tables import policies as policy_table

_READ_PER_WINDOW = 5
"""How many pieces of evidence are read for one that counts, at most: some belong to rules that match before."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """A rule of the active version whose tier is shown to be no longer good enough."""

    document: PolicyDocument
    index: int
    seen: Interval


def find_drifted(connection: Connection, window: int, min_samples: int) -> Drifted | None:
    """The first rule that has drifted, by its latest ``window`` live answers; None where none has.

    Only what came since somebody last chose a version counts: who puts a rule back down is believed until there is new
    evidence.
    """
    document = _active(connection)
    if document is None:
        return None
    since = _chosen_at(connection)
    for index, rule in enumerate(document.policy):
        scores = _scores(connection, document, index, since, window) if _is_watched(document, rule) else []
        if len(scores) >= min_samples and drift.has_drifted(rule, found := mean_interval(scores)):
            return Drifted(document, index, found)
    return None


def move_drifted(connection: Connection, window: int, min_samples: int) -> str | None:
    """Moves the first rule that has drifted one tier up, in a version that is active at once; why, or None."""
    policies.hold(connection)
    found = find_drifted(connection, window, min_samples)
    return None if found is None else _move(connection, found.document, found.index, found.seen)


def _active(connection: Connection) -> PolicyDocument | None:
    try:
        return policies.active(connection)
    except PolicyRefused:  # a newer release's, which that release watches
        return None


def _is_watched(document: PolicyDocument, rule: DocumentRule) -> bool:
    return drift.required_of(rule) is not None and drift.tier_above(document, rule) is not None


def _chosen_at(connection: Connection) -> datetime:
    """When somebody last chose the active version, or the one that drift has made it of."""
    chosen = [one for one in policies.activations(connection) if not one.reason.startswith(policies.DRIFTED)]
    return chosen[0].activated_at


def _scores(
    connection: Connection, document: PolicyDocument, index: int, since: datetime, window: int
) -> Sequence[float]:
    """The latest live scores of answers that a rule decided, on its tier."""
    rule = document.policy[index]
    policy = Policy(document.policy, document.tiers, document.version)
    rows = connection.execute(_latest(rule, since).limit(window * _READ_PER_WINDOW))
    scores = [row.score for row in rows if policy.match(_signals(row.signals)) == index]
    return scores[:window]


_of_task = decisions.alias("of_task")
"""The first decision of a task is the policy's; later ones are escalations."""


def _latest(rule: DocumentRule, since: datetime) -> Any:
    earliest = select(func.min(_of_task.c.id)).where(_of_task.c.task_id == evidence.c.task_id).scalar_subquery()
    statement = (
        select(evidence.c.score, decisions.c.signals)
        .select_from(evidence)
        .join(decisions, decisions.c.id == earliest)
        .where(evidence.c.tier == rule.tier, evidence.c.created_at > since, evidence.c.source == "shadow")
        .order_by(evidence.c.created_at.desc(), evidence.c.id.desc())
    )
    if rule.type is not None:
        statement = statement.where(evidence.c.type == rule.type)
    return statement if rule.name is None else statement.where(evidence.c.name == rule.name)


def _signals(stored: str) -> Signals:
    return Signals(**orjson.loads(stored))


def _move(connection: Connection, document: PolicyDocument, index: int, found: Interval) -> str:
    taken = connection.execute(select(policy_table.c.version)).scalars().all()
    version = drift.next_version(document.version, taken)
    moved = drift.moved_up(document, index, found, version, database_now(connection))
    policies.store(connection, moved)
    rule = document.policy[index]
    reason = f"{policies.DRIFTED} of {document.version}, rule {index + 1} ({rule.conditions}): " + drift.verdict(
        rule, found, moved.policy[index].tier
    ).removeprefix("drift: ")
    policies.activate(connection, version, reason)
    return f"policy version {version} is active: {reason}"
