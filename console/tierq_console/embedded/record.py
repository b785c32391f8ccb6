"""What a running stack says of itself in `.tierq/stack.json`, and whether a command may share it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tierq_console.embedded.files import StackFiles, write_private
from tierq_shared.configuration import BASE_URL_VARIABLES, key_variable
from tierq_shared.environment import read as read_secret
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings

URL_NAMES = {"database_url", "broker_url", "state_url"}


class Order(BaseModel):
    """What a command asks of the supervisor it starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nonce: str
    root: Path
    settings: Settings
    """Without URLs: those are the stack's own."""
    settings_path: Path | None
    simulator: Path | None = None


class ChildRecord(BaseModel):
    """One process of the stack."""

    pid: int | None = None
    starts: int = 0


class StackRecord(BaseModel):
    """`.tierq/stack.json`."""

    nonce: str
    state: Literal["starting", "running", "stopping", "failed"] = "starting"
    pid: int
    settings_path: Path | None = None
    fingerprint: str
    environment: dict[str, str] = Field(default_factory=dict)
    """Digests of the keys and base URLs that the stack's workers got."""
    simulator: Path | None = None
    urls: dict[str, str] = Field(default_factory=dict)
    children: dict[str, ChildRecord] = Field(default_factory=dict)
    flower_port: int | None = None
    simulator_port: int | None = None
    error: str | None = None

    def write(self, files: StackFiles) -> None:
        write_private(files.record, self.model_dump_json(indent=2))


def read(files: StackFiles) -> StackRecord | None:
    """What the stack says of itself; None where there is nothing to read, or an older release wrote it."""
    try:
        return StackRecord.model_validate_json(files.record.read_bytes())
    except (OSError, ValidationError):
        return None


def is_alive(pid: int | None) -> bool:
    """Whether a process of ours has this id."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def fingerprint(settings: Settings, simulator: Path | None) -> str:
    """What two commands must have in common to share a stack."""
    digest = hashlib.sha256(settings.model_dump_json(exclude=URL_NAMES).encode())
    digest.update(simulator.read_bytes() if simulator else b"")
    return digest.hexdigest()[:16]


def environment(settings: Settings, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Digests of the variables that decide where this configuration's calls go, and with whose key."""
    keys = {key_variable(deployment) for deployment in settings.deployments.values()}
    addresses = {BASE_URL_VARIABLES.get(deployment.provider) for deployment in settings.deployments.values()}
    found = {name: read_secret(name, env) for name in filter(None, keys)}
    values = {name: secret.value for name, secret in found.items() if secret}
    values |= {name: env[name] for name in filter(None, addresses) if env.get(name)}
    return {name: hashlib.sha256(value.encode()).hexdigest()[:16] for name, value in sorted(values.items())}


def refuse_another(record: StackRecord, settings: Settings, simulator: Path | None) -> None:
    """Passes where a command with these settings may share the stack.

    Raises:
        ConfigurationError: the stack runs with another configuration, or with other keys.
    """
    root = "the embedded stack that runs here"
    leave = "let its commands end first, or work in another folder"
    if (record.simulator is None) != (simulator is None):
        stands = "answers from the simulator" if record.simulator else "calls the configured providers"
        raise ConfigurationError(f"{root} {stands}, which is not what this command wants: {leave}")
    if record.fingerprint != fingerprint(settings, simulator):
        raise ConfigurationError(
            f"{root} was started with another configuration ({record.settings_path or 'none'} as it was then): {leave}"
        )
    if simulator is None:
        _refuse_other_keys(record, settings, root, leave)


def _refuse_other_keys(record: StackRecord, settings: Settings, root: str, leave: str) -> None:
    # A variable that is not set here is no contradiction: a second terminal may well come without keys.
    others = [name for name, digest in environment(settings).items() if record.environment.get(name) != digest]
    if others:
        raise ConfigurationError(f"{root} was started with another value of {', '.join(others)}: {leave}")
