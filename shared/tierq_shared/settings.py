"""The one frozen settings object. `configuration.load` makes it from file and environment."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from tierq_shared.addresses import fault_of_webhook_url, shown_url
from tierq_shared.caps import Cap
from tierq_shared.cascade import CascadeRule, check_rules
from tierq_shared.checks import did_you_mean
from tierq_shared.deployments import DEFAULT_BASE_URLS, Deployment, fault_of_base_url
from tierq_shared.money import to_nano
from tierq_shared.options import WhenReached
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


Share = Annotated[float, Field(ge=0, le=1)]


class ShadowSettings(Table):
    """Live evidence: which part of the answered tasks is repeated on the next tier up, and what is made of it."""

    share: Share = 0.0
    """Which part of the answers of every tier but the last is checked in this way, from 0 (none) to 1 (all)."""
    shares: dict[str, Share] = Field(default_factory=dict)
    """The same for tasks of one type, or of one name, which wins."""
    window: int = Field(default=200, ge=10)
    """How many of a rule's latest live answers are looked at."""
    min_samples: int = Field(default=50, ge=10)
    """With fewer of them, nothing is said of a rule."""
    judge_every: Seconds = Field(default=60.0, gt=0)
    """How often the sweeper compares what has ended, and looks for drift."""

    @model_validator(mode="after")
    def _check_window(self) -> ShadowSettings:
        if self.min_samples > self.window:
            raise ValueError(f"shadow.min_samples: {self.min_samples} never fit into a window of {self.window}")
        return self

    def share_of(self, type_: str, name: str) -> float:
        return self.shares.get(name, self.shares.get(type_, self.share))

    @property
    def largest_share(self) -> float:
        """Of any type and name: what is drawn above it is not wanted by any."""
        return max([self.share, *self.shares.values()])


def _checked_tag(value: str | None) -> str | None:
    if value is not None and not all(part.strip() for part in (value.partition("=")[0], value.partition("=")[2])):
        raise ValueError(f"{value!r} is no tag: write it as name=value")
    return value


class CapRule(Table):
    """A hard cap on what calls may cost together, in a day, a month (both UTC) or for ever."""

    usd: str
    """The most that may be spent, such as "20.00"."""
    per: Literal["day", "month", "total"]
    tag: str | None = None
    """`name=value`: only for tasks with this tag, their own or their batch's. Without it, for everything."""
    when_reached: WhenReached = "wait"

    @field_validator("usd", mode="before")
    @classmethod
    def _check_usd(cls, value: object) -> str:
        to_nano(value)
        return str(value)

    @field_validator("tag")
    @classmethod
    def _check_tag(cls, value: str | None) -> str | None:
        return _checked_tag(value)

    @property
    def cap(self) -> Cap:
        return Cap(self.per, self.tag, to_nano(self.usd), self.when_reached)


class FlowerSettings(Table):
    """The Flower page of the embedded stack. Its password comes from `TIERQ_FLOWER_PASSWORD` alone."""

    port: int = Field(default=5555, ge=0, le=65535)
    max_tasks: int = Field(default=5000, ge=1)


class MetricsSettings(Table):
    """Where each worker process serves `/metrics` for Prometheus and `/healthz`."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` in a container."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Where it is taken, by another worker of the host, the next free one of a hundred. 0 switches both off.

    The default is that of OpenTelemetry's Prometheus exporters.
    """


class RetentionSettings(Table):
    """How long what is private, and how long the ledger, is kept once a task has ended. For ever where not set."""

    input: Seconds | None = Field(default=None, ge=0)
    output: Seconds | None = Field(default=None, ge=0)
    """With the messages of errors, which may quote it."""
    attempts: Seconds | None = Field(default=None, ge=0)
    """The rows of the ledger; what a task cost stays with the task."""


WebhookEvent = Literal["batch.finished", "budget.reached", "policy.drifted"]


class Webhook(Table):
    """An address that is told of events, by signed POSTs as Standard Webhooks has them."""

    url: str = Field(repr=False)
    events: list[WebhookEvent] = Field(default=["batch.finished", "budget.reached", "policy.drifted"], min_length=1)
    secret_env: str = "TIERQ_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
    """The environment variable with the secret to sign with, `whsec_` and base64; or `NAME_FILE` with its file."""
    tag: str | None = None
    """`name=value`: only batches with this tag."""
    min_tasks: int = Field(default=2, ge=1)
    """Only batches of so many tasks: not every single task that was submitted."""
    allow_private: bool = False
    """Whether it may be at an address that is not public, such as 10.0.0.7 or localhost."""

    @field_validator("tag")
    @classmethod
    def _check_tag(cls, value: str | None) -> str | None:
        return _checked_tag(value)


class ReportSettings(Table):
    """What `tierq report` compares with."""

    baseline: str | None = None
    """The deployment that would have done everything otherwise; the last tier's first one where None."""


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
    cascade: list[CascadeRule] = Field(default_factory=list)
    shadow: ShadowSettings = ShadowSettings()
    caps: list[CapRule] = Field(default_factory=list)
    worker: WorkerSettings = WorkerSettings()
    flower: FlowerSettings = FlowerSettings()
    report: ReportSettings = ReportSettings()
    metrics: MetricsSettings = MetricsSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks: list[Webhook] = Field(default_factory=list)
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
        _check_caps(self.caps)
        _check_webhooks(self.webhooks)
        for name, deployment in self.deployments.items():
            _check_deployment(name, deployment)
            if deployment.limit is not None and deployment.limit not in self.limits:
                hint = did_you_mean(deployment.limit, self.limits)
                raise ValueError(f"deployments.{name}.limit: there is no table [limits.{deployment.limit}]{hint}")
        check_rules(self.cascade, {name: tier.chain for name, tier in self.tiers.items()}, self.deployments)
        return self

    @model_validator(mode="after")
    def _check_baseline(self) -> Settings:
        name = self.report.baseline
        if name is not None and name not in self.deployments:
            hint = did_you_mean(name, self.deployments)
            raise ValueError(f"report.baseline: no deployment is named {name!r}{hint}")
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

    def verifier(self, rule: CascadeRule, require: dict[str, str]) -> Deployment | None:
        """Who verifies by a rule; None where nobody does, or none that may see a task which requires this."""
        deployment = self.deployments[rule.verifier] if rule.verifier else None
        shown = {name: value for name, value in require.items() if name in _WHERE}
        return deployment if deployment and meets(deployment, shown) else None

    def called(self, tier: str) -> list[Deployment]:
        """Every deployment that a worker of the tier may call: its chain, and verifiers of its answers beyond that."""
        rules = [rule for rule in self.cascade if rule.verifier and tier in rule.starts(self.tier_names)]
        names = [*self.tiers[tier].chain, *(rule.verifier for rule in rules if rule.verifier)]
        return [self.deployments[name] for name in dict.fromkeys(names)]

    def serves(self, tier: str, require: dict[str, str]) -> bool:
        """Whether some deployment of the tier has all that a task requires."""
        return any(meets(deployment, require) for deployment in self.chain(tier))


def _check_caps(caps: list[CapRule]) -> None:
    seen: set[tuple[str, str | None]] = set()
    for number, rule in enumerate(caps):
        if (rule.per, rule.tag) in seen:
            whose = f"tag {rule.tag}" if rule.tag else "everything"
            raise ValueError(f"caps.{number}.per: there is a cap for {whose} per {rule.per} already: keep one of them")
        seen.add((rule.per, rule.tag))


def _check_webhooks(webhooks: list[Webhook]) -> None:
    seen: list[str] = []
    for number, webhook in enumerate(webhooks):
        fault = fault_of_webhook_url(webhook.url, allow_private=webhook.allow_private)
        if fault is not None:
            raise ValueError(f"webhooks.{number}.url: {fault}")
        shown = shown_url(webhook.url)
        if shown in seen:
            other = f"webhooks.{seen.index(shown)}"
            raise ValueError(
                f"webhooks.{number}.url: {shown} is told already by {other}: keep one of them, or give it another path"
            )
        seen.append(shown)


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


_WHERE = ("region", "provider")
"""What a task requires of whoever is shown it; its model and deployment are required of whoever answers it."""


def meets(deployment: Deployment, require: dict[str, str]) -> bool:
    """Whether a deployment has all that a task requires."""
    have = {
        "region": deployment.region,
        "provider": deployment.provider,
        "model": deployment.model,
        "deployment": deployment.name,
    }
    return all(have.get(name) == value for name, value in require.items())
