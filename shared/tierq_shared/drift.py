"""Drift: live answers show that a rule's tier is no longer good enough, so the rule moves one tier up. Never down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from tierq_shared.intervals import Interval
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence

_SUFFIX = "-drift-"
_LONGEST_BASE = 80


def required_of(rule: DocumentRule) -> float | None:
    """The quality that a rule is held to; None where it is held to none."""
    return rule.evidence.required if rule.evidence else None


def has_drifted(rule: DocumentRule, found: Interval) -> bool:
    """Whether the quality is shown to be below what the rule requires: the interval's upper end is."""
    required = required_of(rule)
    return required is not None and found.upper < required


def tier_above(document: PolicyDocument, rule: DocumentRule) -> str | None:
    """The next tier up; None from the last one, where there is nothing to move to."""
    tiers = document.tiers
    index = tiers.index(rule.tier) + 1 if rule.tier in tiers else len(tiers)
    return tiers[index] if index < len(tiers) else None


def verdict(rule: DocumentRule, found: Interval, tier: str) -> str:
    """Why a rule moves up, in words."""
    required = required_of(rule) or 0.0
    return (
        f"drift: {found.mean:.3f} [{found.lower:.3f}, {found.upper:.3f}] of {found.samples} live answers on "
        f"{rule.tier} agree with the next tier's, below the required {required:.3f}: moved up to {tier}"
    )


def moved_up(document: PolicyDocument, index: int, found: Interval, version: str, at: datetime) -> PolicyDocument:
    """The document with one rule moved a tier up, and the evidence for it. Its tier's own chain order holds there."""
    rule = document.policy[index]
    tier = tier_above(document, rule)
    required = required_of(rule)
    if tier is None or required is None:
        raise ValueError(f"rule {index + 1} of policy version {document.version} cannot move up")
    why = verdict(rule, found, tier)
    evidence = RuleEvidence(
        verdict=why,
        samples=found.samples,
        quality=found.mean,
        lower=found.lower,
        upper=found.upper,
        required=required,
        source="live",
    )
    moved = rule.model_copy(update={"tier": tier, "chain": None, "evidence": evidence})
    rules = (*document.policy[:index], moved, *document.policy[index + 1 :])
    note = f"{document.version}, with rule {index + 1} ({rule.conditions}) moved up. {why}"
    return document.model_copy(update={"version": version, "created_at": at, "note": note, "policy": rules})


def next_version(version: str, taken: Sequence[str]) -> str:
    """A free name for a version that drift makes of another one."""
    base = re.sub(rf"{_SUFFIX}\d+$", "", version)[:_LONGEST_BASE]
    number = 1
    while f"{base}{_SUFFIX}{number}" in taken:
        number += 1
    return f"{base}{_SUFFIX}{number}"
