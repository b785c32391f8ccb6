"""The pairs of answers that a cascade is calibrated from, as evaluations have left them in the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from tierq_insight.calibration import Pair
from tierq_shared.cascade import CascadeRule, find_rule
from tierq_shared.settings import Settings
from tierq_shared.store.tables import evaluations, evidence


@dataclass(frozen=True, slots=True)
class Paired:
    """What one rule of the cascade has to go by on one tier."""

    rule: CascadeRule
    tier: str
    deployment: str | None
    """The cheap one: the first of the tier's chain that was evaluated. None where none was."""
    higher_tier: str
    higher: str | None
    """The deployment of the next tier up that the pairs are with; None where none was evaluated."""
    pairs: Sequence[Pair] = field(repr=False)
    unmeasured: int
    """Valid answers of the cheap deployment without a confidence."""


def latest_evaluation(connection: Connection) -> str | None:
    """The evaluation that was begun last and has evidence; None where there is none."""
    statement = (
        select(evaluations.c.id)
        .where(select(evidence.c.id).where(evidence.c.evaluation_id == evaluations.c.id).exists())
        .order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar_one_or_none()


def evaluations_like(connection: Connection, prefix: str) -> list[str]:
    """The ids of evaluations that begin like this; at most five."""
    # A range, since SQLite uses no index for LIKE. Ids are hex digits: "g" comes after whatever may follow.
    first = prefix.rstrip("…").lower()
    ids = select(evaluations.c.id).where(evaluations.c.id >= first, evaluations.c.id < f"{first}g")
    return list(connection.execute(ids.order_by(evaluations.c.id).limit(5)).scalars())


def read_pairs(connection: Connection, settings: Settings, evaluation_id: str) -> list[Paired]:
    """For every rule, and every tier that it starts from, the pairs of one evaluation that it decides on."""
    rows = connection.execute(select(evidence).where(evidence.c.evaluation_id == evaluation_id)).all()
    tiers = settings.tier_names
    found = []
    for rule in settings.cascade:
        for tier in tiers[:-1]:
            if tier in rule.starts(tiers):
                own = [row for row in rows if find_rule(settings.cascade, row.type, row.name, tier, tiers) is rule]
                found.append(_paired(settings, rule, tier, own))
    return found


def _paired(settings: Settings, rule: CascadeRule, tier: str, rows: Sequence[Any]) -> Paired:
    tiers = settings.tier_names
    above = tiers[tiers.index(tier) + 1]
    cheap_name, cheap = _first_evaluated(settings, tier, rows)
    higher_name, higher = _first_evaluated(settings, above, rows)
    both = sorted(cheap.keys() & higher.keys())
    return Paired(
        rule,
        tier,
        cheap_name,
        above,
        higher_name,
        [_pair(cheap[place], higher[place]) for place in both],
        sum(row.confidence is None and not row.failed for row in cheap.values()),
    )


Place = tuple[str, str, str]
"""Type, name and sample: what the answers of two deployments are paired by."""


def _first_evaluated(settings: Settings, tier: str, rows: Sequence[Any]) -> tuple[str | None, Mapping[Place, Any]]:
    by_deployment: dict[str, dict[Place, Any]] = defaultdict(dict)
    for row in rows:
        if row.tier == tier:
            by_deployment[row.deployment][row.type, row.name, row.sample] = row
    name = next((name for name in settings.tiers[tier].chain if name in by_deployment), None)
    return name, by_deployment[name] if name else {}


def _pair(cheap: Any, higher: Any) -> Pair:
    return Pair(
        confidence=None if cheap.failed else cheap.confidence,
        cheap=0.0 if cheap.failed else cheap.score,
        higher=0.0 if higher.failed else higher.score,
        cheap_nusd=cheap.cost_nusd,
        higher_nusd=higher.cost_nusd,
    )
