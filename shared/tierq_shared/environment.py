"""Secrets from the environment: as they stand in a variable, or in the file that `NAME_FILE` names.

Container platforms hand secrets over as files. Everything else, such as base URLs, comes from plain variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tierq_shared.errors import ConfigurationError

FILE_SUFFIX = "_FILE"
MAX_BYTES = 10_000
"""Much more than any key or URL takes; a wrong file is not read into the memory."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and where it came from in words that may be shown."""

    value: str = field(repr=False)
    source: str


def read(variable: str, env: Mapping[str, str]) -> Secret | None:
    """What the environment says under a name, from the variable or its file; None where it says nothing.

    Raises:
        ConfigurationError: the file cannot be used, both are set, or what was found is no key and no URL.
    """
    value, file = env.get(variable, "").strip(), env.get(variable + FILE_SUFFIX, "").strip()
    if value and file:
        raise ConfigurationError(f"{variable} and {variable}{FILE_SUFFIX} are both set: unset one of them")
    if file:
        source = f"file {file} ({variable}{FILE_SUFFIX})"
        return Secret(_on_one_line(_content(variable, file), source), source)
    source = f"environment {variable}"
    return Secret(_on_one_line(value, source), source) if value else None


def _content(variable: str, file: str) -> str:
    mend = f"put the secret there, or set {variable} instead"
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        text = content.decode("utf-8").strip()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{variable}{FILE_SUFFIX} names {file}, which cannot be read ({why}): {mend}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}{FILE_SUFFIX} names {file}, which is no text: {mend}") from None
    if not text or len(content) > MAX_BYTES:
        what = "empty" if not text else f"larger than {MAX_BYTES:,} bytes"
        raise ConfigurationError(f"{variable}{FILE_SUFFIX} names {file}, which is {what}: {mend}")
    return text


def _on_one_line(value: str, source: str) -> str:
    # In a header, a line break would begin another header; the HTTP client's refusal would quote the key.
    if not value.isprintable():
        raise ConfigurationError(f"{source}: holds a line break or another control character: write it on one line")
    return value
