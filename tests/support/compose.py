"""docker-compose.yml as data: read with its merges, its `${…}` filled in, and held against the keys we know of it.

No package index here ships the Compose Specification's JSON schema, so `SCHEMA` is our own. It covers the keys that our
file uses and refuses every other one, so a misspelt key is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "docker-compose.yml"

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_DURATION = {"type": "string", "pattern": r"^(\d+(h|ms|m|s|us))+$"}
_ENVIRONMENT = {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}}
_CONDITIONS = ["service_started", "service_healthy", "service_completed_successfully"]

_HEALTHCHECK = {
    "type": "object",
    "properties": {
        "test": {"type": "array", "items": _TEXT, "minItems": 2, "contains": {"enum": ["CMD", "CMD-SHELL"]}},
        "interval": _DURATION,
        "timeout": _DURATION,
        "start_period": _DURATION,
        "retries": {"type": "integer", "minimum": 1},
    },
    "required": ["test"],
    "additionalProperties": False,
}

_SERVICE = {
    "type": "object",
    "properties": {
        "image": _TEXT,
        "build": {
            "type": "object",
            "properties": {"context": _TEXT, "dockerfile": _TEXT},
            "required": ["context"],
            "additionalProperties": False,
        },
        "command": _TEXTS,
        "environment": _ENVIRONMENT,
        "volumes": _TEXTS,
        "tmpfs": _TEXTS,
        "ports": _TEXTS,
        "profiles": _TEXTS,
        "cap_drop": _TEXTS,
        "security_opt": _TEXTS,
        "init": {"type": "boolean"},
        "read_only": {"type": "boolean"},
        "shm_size": {"type": "string", "pattern": r"^\d+(b|kb?|mb?|gb?)$"},
        "restart": {"type": "string", "pattern": r"^(no|always|unless-stopped|on-failure(:\d+)?)$"},
        "stop_grace_period": _DURATION,
        "healthcheck": _HEALTHCHECK,
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"condition": {"enum": _CONDITIONS}},
                "required": ["condition"],
                "additionalProperties": False,
            },
        },
    },
    "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
    "additionalProperties": False,
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "patternProperties": {r"^[a-zA-Z0-9._-]+$": _SERVICE},
            "additionalProperties": False,
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "additionalProperties": False,
}

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class MissingVariable(Exception):
    """A variable that the file requires is not set; the text is the file's own."""


def read() -> dict[str, Any]:
    """The file, its merge keys resolved as Compose does."""
    return dict(yaml.safe_load(FILE.read_text()))


def interpolate(value: Any, env: Mapping[str, str]) -> Any:
    """Fills in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`."""
    if isinstance(value, dict):
        return {name: interpolate(one, env) for name, one in value.items()}
    if isinstance(value, list):
        return [interpolate(one, env) for one in value]
    return _VARIABLE.sub(lambda match: _fill(match, env), value) if isinstance(value, str) else value


def _fill(match: re.Match[str], env: Mapping[str, str]) -> str:
    name, mode, text = match.groups()
    value = env.get(name, "")
    if not value and mode == "?":
        raise MissingVariable(text)
    return value or (text if mode == "-" else "") or ""
