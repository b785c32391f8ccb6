"""The policy as a file: a `PolicyDocument` in TOML, for people to read, to keep beside their code, and to change."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tierq_shared.configuration import findings
from tierq_shared.errors import ConfigurationError, MissingExtra
from tierq_shared.policy_document import PolicyDocument


def read_policy_file(path: Path) -> PolicyDocument:
    """The document in a file.

    Raises:
        ConfigurationError: the file cannot be read or holds what it may not; all findings are listed with their lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: this is no valid TOML: {error}") from None
    try:
        return PolicyDocument(**values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(findings(error, text, path, PolicyDocument))) from None


def policy_toml(document: PolicyDocument) -> str:
    """A document as `read_policy_file` reads it: the very same document comes back.

    Raises:
        MissingExtra: tomlkit is not installed.
    """
    try:
        import tomlkit
    except ModuleNotFoundError:
        raise MissingExtra("policy files need the console extra: pip install 'tierq[console]'") from None
    values = document.model_dump(exclude_none=True, exclude={"policy"})
    file = tomlkit.item({name: _plain(value) for name, value in values.items()})
    rules = tomlkit.aot()
    for rule in document.policy:
        rules.append(tomlkit.item({name: _plain(value) for name, value in rule.model_dump(exclude_none=True).items()}))
    file["policy"] = rules
    return tomlkit.dumps(file)


def _plain(value: Any) -> Any:
    """TOML's arrays are lists."""
    return list(value) if isinstance(value, tuple) else value
