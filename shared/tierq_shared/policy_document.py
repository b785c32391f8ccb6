"""The policy as a versioned document: the rules, and the evidence that each rests on. A file of it is TOML."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tierq_shared.policy import PolicyRule


class RuleEvidence(BaseModel):
    """Why a derived rule says what it says: the figures of the tier it chose, with 95 % intervals."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    verdict: str
    """In words: what was chosen and why, or that there is too little data."""
    samples: int = Field(ge=0)
    quality: float | None = None
    """The mean score of the chosen tier's answers, from 0 to 1."""
    lower: float | None = None
    upper: float | None = None
    required: float | None = None
    """What the lower bound had to clear; None where there was nothing that it could be taken from."""
    cost_usd_per_1000: float | None = None
    """Everything charged; None where any call is unpriced."""
    p50_ms: int | None = None
    p95_ms: int | None = None
    failure_rate: float | None = None
    source: Literal["evaluation", "live", "both", "none"] = "none"


class DocumentRule(PolicyRule):
    """A row of the policy, with its evidence where it was derived."""

    chain: tuple[str, ...] | None = None
    """The order in which the tier's deployments are tried for these tasks; the tier's own where None."""
    evidence: RuleEvidence | None = None


class PolicyDocument(BaseModel):
    """One version of the policy. First match decides, as in `tierq.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    created_at: datetime
    tiers: tuple[str, ...] = Field(min_length=1)
    """The tiers it was made for, cheapest first."""
    note: str | None = None
    policy: tuple[DocumentRule, ...]
