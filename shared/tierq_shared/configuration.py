"""Finds and loads the configuration: environment above file, errors with file, line and mend."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from tierq_shared import environment
from tierq_shared.checks import did_you_mean
from tierq_shared.deployments import DEFAULT_BASE_URLS, Deployment, fault_of_base_url
from tierq_shared.environment import Secret
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings

FILE_NAME = "tierq.toml"

MAX_SOCKET_BYTES = 107
"""The longest path that a Unix socket can have on Linux."""
_SOCKET = "redis.sock"

URL_VARIABLES = {
    "database_url": "TIERQ_DATABASE_URL",
    "broker_url": "TIERQ_BROKER_URL",
    "state_url": "TIERQ_STATE_URL",
}

KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}
BASE_URL_VARIABLES = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "gemini": "GOOGLE_GEMINI_BASE_URL",
}
"""The variables that each provider's official SDK reads."""


@dataclass(frozen=True, slots=True)
class EmbeddedPaths:
    """Where the embedded stack of a folder keeps its parts."""

    root: Path
    """`.tierq/`"""

    @property
    def database(self) -> Path:
        return self.root / "tierq.db"

    @property
    def runtime(self) -> Path:
        """A short folder for the Unix socket; `/tmp` holds it where the usual place's path is too long."""
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        name = f"tierq-{os.getuid()}-{digest}"
        usual = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / name
        fits = len(os.fsencode(usual / _SOCKET)) <= MAX_SOCKET_BYTES
        return usual if fits else Path("/tmp", name)  # noqa: S108 - the folder is made 0700 and checked to be ours

    @property
    def socket(self) -> Path:
        return self.runtime / _SOCKET

    def urls(self) -> dict[str, str]:
        return {
            "database_url": f"sqlite:///{self.database}",
            "broker_url": f"redis+socket://{self.socket}?virtual_host=0",
            "state_url": f"unix://{self.socket}?db=0",
        }


def embedded_paths(settings_path: Path | None, folder: Path | None = None) -> EmbeddedPaths:
    """`.tierq/` beside the configuration file, else in the working folder."""
    beside = settings_path.parent if settings_path else (folder or Path.cwd())
    return EmbeddedPaths(beside.resolve() / ".tierq")


def find_file(start: Path | None = None, env: Mapping[str, str] = os.environ) -> Path | None:
    """`TIERQ_CONFIG`, else the nearest `tierq.toml` here or above.

    Raises:
        ConfigurationError: `TIERQ_CONFIG` names a file that does not exist.
    """
    if named := env.get("TIERQ_CONFIG"):
        if not Path(named).is_file():
            raise ConfigurationError(f"TIERQ_CONFIG names {named}, which is no file")
        return Path(named).resolve()
    here = (start or Path.cwd()).resolve()
    return next((folder / FILE_NAME for folder in (here, *here.parents) if (folder / FILE_NAME).is_file()), None)


def load(
    path: Path | None = None, overrides: Mapping[str, str | None] | None = None, env: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from a file (none where ``path`` is None), the environment above it, and arguments above both.

    Raises:
        ConfigurationError: the file cannot be read or holds what it may not; all findings are listed.
    """
    text = _read(path) if path else ""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: this is no valid TOML: {error}") from None
    if "path" in values:  # ours, for where the file lies
        raise ConfigurationError(f"{path}:{line_of(text, ['path'])}: path: there is no such key")
    for name, variable in URL_VARIABLES.items():
        given = (overrides or {}).get(name) or _value(environment.read(variable, env))
        if given is not None:
            values[name] = given
    try:
        return Settings(**values, path=path)
    except ValidationError as error:
        raise ConfigurationError("\n".join(findings(error, text, path, Settings))) from None


def with_embedded_urls(settings: Settings) -> Settings:
    """The settings, with the embedded stack's URLs where no database is named."""
    if settings.database_url is not None:
        return settings
    urls = {name: SecretStr(url) for name, url in embedded_paths(settings.path).urls().items()}
    return settings.model_copy(update=urls)


def sources(settings: Settings, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Where each of the URLs came from, for `tierq config`."""
    named = str(settings.path) if settings.path else "default"
    given = {name: environment.read(variable, env) for name, variable in URL_VARIABLES.items()}
    return {
        name: secret.source if secret else named if getattr(settings, name) else "not set"
        for name, secret in given.items()
    }


def key_variable(deployment: Deployment) -> str | None:
    """The environment variable that holds a deployment's key; None where none is expected."""
    return deployment.key_env or KEY_VARIABLES.get(deployment.provider)


def find_key(deployment: Deployment, env: Mapping[str, str] = os.environ) -> Secret | None:
    """A deployment's key with where it came from: its variable, or the file that `NAME_FILE` names.

    Raises:
        ConfigurationError: the file cannot be used, or both are set.
    """
    variable = key_variable(deployment)
    return environment.read(variable, env) if variable else None


def resolve_key(deployment: Deployment, env: Mapping[str, str] = os.environ) -> SecretStr | None:
    """A deployment's key, from the environment or its file alone; None where it is missing or none is expected.

    Raises:
        ConfigurationError: the file cannot be used, or both are set.
    """
    value = _value(find_key(deployment, env))
    return SecretStr(value) if value else None


def resolve_base_url(deployment: Deployment, env: Mapping[str, str] = os.environ) -> Deployment:
    """The deployment with its base URL filled in: its own, else its SDK's variable, else the provider's.

    Raises:
        ConfigurationError: the variable's is one that no key may be sent to, such as plain HTTP to another machine.
    """
    variable = BASE_URL_VARIABLES.get(deployment.provider, "")
    if deployment.base_url is None and (found := env.get(variable, "").strip()):
        fault = fault_of_base_url(found, allow_plain_http=deployment.allow_plain_http)
        if fault is not None:
            raise ConfigurationError(f"environment {variable}, for deployment {deployment.name}: {fault}")
        return deployment.model_copy(update={"base_url": found.rstrip("/")})
    base_url = deployment.base_url or DEFAULT_BASE_URLS[deployment.provider]
    return deployment.model_copy(update={"base_url": base_url.rstrip("/")})


def check_calls(deployments: Iterable[Deployment], env: Mapping[str, str] = os.environ) -> None:
    """Passes where the environment of a process that calls providers can be used; a missing key is no fault here.

    Raises:
        ConfigurationError: an address or a key of these deployments cannot be used.
    """
    for deployment in deployments:
        resolve_base_url(deployment, env)
        resolve_key(deployment, env)


def _value(secret: Secret | None) -> str | None:
    return secret.value if secret is not None else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None


def findings(error: ValidationError, text: str, path: Path | None, model: type[BaseModel]) -> list[str]:
    """What is wrong with a TOML file that should be a ``model``: each with file, line, key and mend."""
    found = []
    for item in error.errors(include_url=False, include_input=False):
        message = item["msg"].removeprefix("Value error, ")
        place = [str(part) for part in item["loc"]]
        if not place and (match := re.match(r"(.+?): (.*)", message, re.DOTALL)):
            place, message = match[1].split("."), match[2]
        if item["type"] == "extra_forbidden":
            message = f"there is no such key{did_you_mean(place[-1], _fields_at(model, place[:-1]))}"
        where = f"{path}:{line_of(text, place)}" if path else "environment"
        found.append(f"{where}: {'.'.join(place)}: {message}")
    return found


def _fields_at(model: type[BaseModel], place: list[str]) -> list[str]:
    """The keys that exist where an unknown one was found."""
    table: Any = model
    for key in place:
        table = _under(table, key)
    ours = {Settings: "path", Deployment: "name"}
    return [name for name in table.model_fields if name != ours.get(table)]


def _under(table: Any, key: str) -> Any:
    """The type of what stands under a key: a field of a table, or an entry of a list or mapping of tables."""
    within = [one for one in get_args(table) if one is not ...]
    type_ = table.model_fields[key].annotation if hasattr(table, "model_fields") else within[-1]
    tables = [one for one in get_args(type_) if hasattr(one, "model_fields")]
    return tables[0] if isinstance(type_, UnionType) else type_


def line_of(text: str, place: list[str]) -> int:
    """The line of a key: its table's header first, then the key below it. tomllib keeps no positions."""
    lines = text.splitlines()
    row = _header_line(lines, place)
    end = next((number for number in range(row, len(lines)) if re.match(r"\s*\[", lines[number])), len(lines))
    for key in reversed(place):  # where the key stands in an inline table, the line is that table's
        for number in range(row, end):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", lines[number]):
                return number + 1
    return max(row, 1)


def _header_line(lines: list[str], place: list[str]) -> int:
    """How many lines there are up to and with the longest table header that names the place; 0 for the top level."""
    headers = [number for number, line in enumerate(lines, 1) if re.match(rf"\s*\[\[\s*{place[0]}\s*\]\]", line)]
    if headers and len(place) > 1 and place[1].isdigit():
        return _below_entry(lines, headers, place) if int(place[1]) < len(headers) else 0
    for length in range(len(place), 0, -1):
        wanted = ".".join(place[:length])
        for number, line in enumerate(lines, 1):
            if re.fullmatch(rf"\s*\[\s*{re.escape(wanted)}\s*\]\s*(#.*)?", _unquoted(line)):
                return number
    # A table that is there through its own tables or as a list only, such as `tier` in `[tier.small]`.
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*\[+\s*{re.escape(place[0])}\s*[.\]]", _unquoted(line)):
            return number
    return 0


def _below_entry(lines: list[str], headers: list[int], place: list[str]) -> int:
    """The header of an entry of a list of tables, or below it that of the table in it that the place names."""
    index = int(place[1])
    end = headers[index + 1] if index + 1 < len(headers) else len(lines)
    for length in range(len(place), 2, -1):
        wanted = ".".join([place[0], *place[2:length]])
        for number in range(headers[index], end):
            if re.fullmatch(rf"\s*\[\s*{re.escape(wanted)}\s*\]\s*(#.*)?", _unquoted(lines[number])):
                return number + 1
    return headers[index]


def _unquoted(line: str) -> str:
    return line.replace('"', "").replace("'", "")
