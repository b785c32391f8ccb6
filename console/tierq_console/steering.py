"""What an operator steers, found by its name; and every change with who made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_shared.checks import did_you_mean
from tierq_shared.deployments import Deployment
from tierq_shared.errors import BatchNotFound, ConfigurationError, SchemaMismatch
from tierq_shared.settings import Settings
from tierq_shared.store import actions, controls, schema
from tierq_shared.store.connection import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """A tier, a deployment or a batch."""

    kind: str
    name: str
    """A batch's whole id."""

    @property
    def scope(self) -> str:
        return f"{self.kind}:{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@contextmanager
def steered_store() -> Iterator[tuple[Settings, Store]]:
    """The configured store, with tables that can hold what operators set.

    Raises:
        SchemaMismatch: they are of an older release.
    """
    settings = find_settings(None)
    with open_store(settings) as store:
        if not schema.has(store, controls.SINCE):
            raise SchemaMismatch(
                f"TierQ's tables are at version {store.schema_version}, and what operators set is kept from "
                f"{controls.SINCE} on: run `tierq migrate`"
            )
        yield settings, store


def find_target(settings: Settings, store: Store, name: str) -> Target:
    """What a name means: a tier, a deployment, or the batch whose id begins with it; `kind:name` says which.

    Raises:
        ConfigurationError: it means nothing, or more than one thing.
    """
    kind, _, rest = name.partition(":")
    if rest and kind in ("tier", "deployment", "batch"):
        return _of_kind(settings, store, kind, rest)
    named = [Target("tier", name)] if name in settings.tiers else []
    named += [Target("deployment", name)] if name in settings.deployments else []
    if len(named) > 1:
        raise ConfigurationError(f"{name!r} is a tier and a deployment: write tier:{name} or deployment:{name}")
    if named:
        return named[0]
    try:
        return Target("batch", find_batch(store, name))
    except BatchNotFound as error:
        known = [*settings.tiers, *settings.deployments]
        raise ConfigurationError(
            f"{name!r} is no tier and no deployment of tierq.toml{did_you_mean(name, known)}, and {error}"
        ) from None


def find_deployment(settings: Settings, name: str) -> Deployment:
    """A configured deployment.

    Raises:
        ConfigurationError: there is none of this name.
    """
    if name not in settings.deployments:
        raise ConfigurationError(f"no deployment is named {name!r}{did_you_mean(name, settings.deployments)}")
    return settings.deployments[name]


def change(
    store: Store,
    action: str,
    target: str,
    work: Callable[[Connection], T],
    details: dict[str, Any] | None = None,
) -> T:
    """Changes something, and records in the same transaction who did."""

    def both(connection: Connection) -> T:
        result = work(connection)
        if result is not False:
            actions.record(connection, action, target, details)
        return result

    return store.write(both)


def note(store: Store, action: str, target: str, details: dict[str, Any] | None = None) -> None:
    """Records what was changed just now, where the tables can hold it."""
    if schema.has(store, controls.SINCE):
        store.write(lambda connection: actions.record(connection, action, target, details))


def _of_kind(settings: Settings, store: Store, kind: str, name: str) -> Target:
    if kind == "batch":
        return Target(kind, find_batch(store, name))
    known = settings.tiers if kind == "tier" else settings.deployments
    if name not in known:
        raise ConfigurationError(f"there is no {kind} {name!r}{did_you_mean(name, known)}")
    return Target(kind, name)
