"""The one frozen settings object. `configuration.load` makes it from file and environment."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from tierq_shared.checks import did_you_mean
from tierq_shared.deployments import DEFAULT_BASE_URLS, Deployment, fault_of_base_url
from tierq_shared.policy import DEFAULT_RULES, Policy, PolicyRule

DEFAULT_TIERS = ("small", "medium", "large")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: object) -> object:
    """A span such as `"60s"`, `"5m"`, `"250ms"`, or a number of seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value)
        if match is None:
            raise ValueError(f"{value!r} is no span of time: write it as 250ms, 60s, 5m, 2h or 1d")
        return float(match[1]) * _UNITS[match[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]


class Table(BaseModel):
    """A table of `tierq.toml`: no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tier(Table):
    """A class of models of like capability: one queue, one worker pool, one deployment chain."""

    chain: list[str] = Field(min_length=1)
    """The names of its deployments, in the order in which they are tried."""
    max_in_flight: int = Field(default=200, ge=1, le=10_000)
    """Calls under way at once, per worker process."""
    spill_after: Seconds = Field(default=60.0, ge=0)
    """How long a standard task waits out a rate limit before it takes a dearer deployment of the chain."""
    refusal_failover: bool = False
    """Whether a task that one deployment refused by its content policy is put to the next one of the chain."""


class Limit(Table):
    """A provider account's quota, shared by the deployments that name it and by every worker of every host."""

    rpm: int | None = Field(default=None, ge=1)
    """Requests a minute."""
    tpm: int | None = Field(default=None, ge=1)
    """Tokens a minute, input and output together."""


class WorkerSettings(Table):
    """How worker processes keep their promises. All spans in seconds."""

    lease: Seconds = Field(default=30.0, ge=1)
    """A worker that has not renewed its lease for this long is dead, and its tasks go to others."""
    grace: Seconds = Field(default=25.0, ge=0)
    """How long a stopping worker lets calls finish before it hands them back."""
    sweep_every: Seconds = Field(default=1.0, gt=0)
    marker_every: Seconds = Field(default=60.0, gt=0)
    """How often a queue with chunks that nobody received is asked, by a marker, whether any were lost."""
    max_attempts: int = Field(default=10, ge=1)
    """Calls for one task, over all deployments and tiers, before it fails."""
    hold: Seconds = Field(default=1.0, gt=0)
    """How long a received chunk waits for free slots before what is left of it is handed back."""
    max_response_bytes: int = Field(default=4_000_000, ge=1_000)
    """The largest answer that is read, decompressed: beyond what any model gives."""


class FlowerSettings(Table):
    """The Flower page of the embedded stack. Its password comes from `TIERQ_FLOWER_PASSWORD` alone."""

    port: int = Field(default=5555, ge=0, le=65535)
    max_tasks: int = Field(default=5000, ge=1)


class Settings(Table):
    """Everything that `tierq.toml` and the environment say."""

    version: int = 1
    database_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    state_url: SecretStr | None = None
    limits: dict[str, Limit] = Field(default_factory=dict)
    tiers: dict[str, Tier] = Field(default_factory=dict)
    deployments: dict[str, Deployment] = Field(default_factory=dict)
    policy: list[PolicyRule] = Field(default_factory=list)
    worker: WorkerSettings = WorkerSettings()
    flower: FlowerSettings = FlowerSettings()
    path: Path | None = Field(default=None, exclude=True)
    """The file it came from, where there was one."""

    @model_validator(mode="before")
    @classmethod
    def _name_deployments(cls, values: Any) -> Any:
        deployments = values.get("deployments")
        if not isinstance(deployments, dict):
            return values
        return {**values, "deployments": {name: _named(name, table) for name, table in deployments.items()}}

    @model_validator(mode="after")
    def _check_names(self) -> Settings:
        if self.version != 1:
            raise ValueError(f"version: {self.version} is not known to this release; write version = 1")
        for name, tier in self.tiers.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
                raise ValueError(f"tiers.{name}: a tier's name is lower-case letters, digits, '-' and '_', at most 40")
            for link in tier.chain:
                if link not in self.deployments:
                    hint = did_you_mean(link, self.deployments)
                    raise ValueError(f"tiers.{name}.chain: no deployment is named {link!r}{hint}")
        for number, rule in enumerate(self.policy):
            if rule.tier not in self.tiers:
                raise ValueError(
                    f"policy.{number}.tier: there is no tier {rule.tier!r}{did_you_mean(rule.tier, self.tiers)}"
                )
        for name, deployment in self.deployments.items():
            _check_deployment(name, deployment)
            if deployment.limit is not None and deployment.limit not in self.limits:
                hint = did_you_mean(deployment.limit, self.limits)
                raise ValueError(f"deployments.{name}.limit: there is no table [limits.{deployment.limit}]{hint}")
        return self

    def make_policy(self) -> Policy:
        """The routing policy; without rules, the default ones where the default tiers are there, else the last tier."""
        rules = self.policy or [rule for rule in DEFAULT_RULES if set(DEFAULT_TIERS) <= set(self.tier_names)]
        return Policy(rules, self.tier_names)

    @property
    def tier_names(self) -> list[str]:
        """The tiers, cheapest first. A producer that knows only the URLs assumes the default ones."""
        return list(self.tiers) or list(DEFAULT_TIERS)

    def chain(self, tier: str) -> list[Deployment]:
        """A tier's deployments, in the order in which they are tried."""
        return [self.deployments[name] for name in self.tiers[tier].chain]

    def serves(self, tier: str, require: dict[str, str]) -> bool:
        """Whether some deployment of the tier has all that a task requires."""
        return any(meets(deployment, require) for deployment in self.chain(tier))


def _named(name: str, table: Any) -> Any:
    """A deployment's table with the name that its header gives it, which is the only one it has."""
    if not isinstance(table, dict):
        return table
    # Settings that are read back from their own JSON do carry it, and agree.
    if table.get("name", name) != name:
        raise ValueError(f"deployments.{name}.name: there is no such key: the name is the one in [deployments.{name}]")
    return {**table, "name": name}


_SAMPLING = ("temperature", "top_p", "top_k")


def _check_deployment(name: str, deployment: Deployment) -> None:
    if deployment.provider not in DEFAULT_BASE_URLS and deployment.base_url is None:
        raise ValueError(f"deployments.{name}: an {deployment.provider} server needs a base_url")
    if deployment.base_url is not None:
        fault = fault_of_base_url(deployment.base_url, allow_plain_http=deployment.allow_plain_http)
        if fault is not None:
            raise ValueError(f"deployments.{name}.base_url: {fault}")
    # Anthropic's version 2026-10-21 and later answer 400 to sampling parameters: better said now than per task.
    refuses = deployment.provider == "anthropic" and (deployment.api_version or "9999") >= "2026-10-21"
    for parameter in _SAMPLING:
        if refuses and parameter in deployment.params:
            message = f"{parameter} is refused by Anthropic from version 2026-10-21 on: leave it out"
            raise ValueError(f"deployments.{name}.params: {message}, or set api_version = '2023-06-01'")


REQUIRABLE = ("region", "provider", "model", "deployment")
"""What a task may `require` of the deployment that runs it."""


def meets(deployment: Deployment, require: dict[str, str]) -> bool:
    """Whether a deployment has all that a task requires."""
    have = {
        "region": deployment.region,
        "provider": deployment.provider,
        "model": deployment.model,
        "deployment": deployment.name,
    }
    return all(have.get(name) == value for name, value in require.items())
