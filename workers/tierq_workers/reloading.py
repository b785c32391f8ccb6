"""What SIGHUP takes up of `tierq.toml`: chains, deployments, limits, policy, cascade, caps. The rest is fixed."""

from __future__ import annotations

import logging

from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings
from tierq_shared.store import actions, controls, schema
from tierq_shared.store.connection import Store

log = logging.getLogger("tierq.worker")

_FIXED = ("database_url", "broker_url", "state_url", "worker", "flower", "metrics", "retention", "webhooks", "shadow")
"""What a worker's parts were built with."""


def reloaded(settings: Settings, tier: str) -> Settings | None:
    """The configuration as its file is now; None, with the reason in the log, where that cannot be taken up."""
    if settings.path is None:
        log.error("SIGHUP: this worker has no tierq.toml of its own to read again; whoever started it starts it anew")
        return None
    try:
        found = configuration.load(settings.path)
        _check(found, settings, tier)
    except ConfigurationError as error:
        log.error("SIGHUP: the configuration of before holds on: %s", error)  # noqa: TRY400 - a user's mistake: no traceback
        return None
    for name in _FIXED:
        if getattr(found, name) not in (None, getattr(settings, name)):
            log.warning("SIGHUP: %s has changed, which takes a restart of the worker", name)
    return found.model_copy(update={name: getattr(settings, name) for name in _FIXED})


def note_reload(store: Store, tier: str) -> None:
    """Records that a worker took a changed configuration up, where the tables can hold it."""
    if schema.has(store, controls.SINCE):
        store.write(lambda connection: actions.record(connection, "reload", controls.tier_scope(tier)))


def _check(found: Settings, settings: Settings, tier: str) -> None:
    if found.tier_names != settings.tier_names:
        raise ConfigurationError("tiers were added, taken away or put in another order, which takes a restart")
    configuration.check_calls(found.called(tier))
