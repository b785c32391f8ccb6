"""Refuses, before anything is spent, a configuration that could not carry a job through."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tierq_console.stack import attached_stack
from tierq_shared import configuration
from tierq_shared.deployments import Deployment, is_loopback
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings


def load_settings() -> Settings:
    """The configuration found from here upwards, with tiers wherever this machine does the work itself.

    Raises:
        ConfigurationError: there is none, or it names no tiers.
    """
    path = configuration.find_file()
    settings = configuration.load(path)
    if settings.database_url is None and not settings.tiers:
        what = f"{path} names no tiers" if path else "there is no tierq.toml here or above"
        raise ConfigurationError(
            f"{what}: `tierq init` writes one from the keys you have, `tierq demo` shows the whole way without keys"
        )
    return settings


@contextmanager
def working_settings(settings: Settings | None = None) -> Iterator[Settings]:
    """Settings of a stack that others keep: the configured one, else the embedded one that runs in this folder.

    Raises:
        ConfigurationError: there is neither.
    """
    settings = settings or load_settings()
    if settings.database_url is not None:
        yield settings
        return
    with attached_stack(settings) as attached:
        yield attached


def check_keys(settings: Settings, env: Mapping[str, str] = os.environ) -> None:
    """Refuses a configuration with deployments whose key is missing, where their calls go out from this machine.

    Raises:
        ConfigurationError: with every variable that is to be set.
    """
    if settings.database_url is not None:
        return
    missing: dict[str, list[str]] = {}
    for tier in settings.tiers:
        for deployment in settings.called(tier):
            variable = _missing_key(deployment, env)
            if variable and deployment.name not in missing.setdefault(variable, []):
                missing[variable].append(deployment.name)
    if missing:
        lines = [
            f"{variable} is not set, and deployment {', '.join(names)} needs it" for variable, names in missing.items()
        ]
        raise ConfigurationError(
            "; ".join(lines) + ": set it, or take the deployment out of its chain; nothing was submitted"
        )


def _missing_key(deployment: Deployment, env: Mapping[str, str]) -> str | None:
    variable = configuration.key_variable(deployment)
    if variable is None or configuration.resolve_key(deployment, env) is not None:
        return None
    resolved = configuration.resolve_base_url(deployment, env)
    return None if is_loopback(resolved.base_url or "") else variable
