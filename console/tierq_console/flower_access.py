"""The user and password of the embedded stack's Flower page."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from importlib.util import find_spec

from tierq_console.embedded.files import StackFiles, write_private
from tierq_shared import environment

USER = "tierq"
PASSWORD_VARIABLE = "TIERQ_FLOWER_PASSWORD"  # noqa: S105  # the variable's name


def is_installed() -> bool:
    """Whether the `flower` extra is there."""
    return find_spec("flower") is not None


def settle_password(files: StackFiles, env: Mapping[str, str] = os.environ) -> str:
    """The password: the one in the environment, else the one made before, else a new one. It stays in `.tierq/`."""
    given = environment.read(PASSWORD_VARIABLE, env)
    password = given.value if given else read_password(files) or secrets.token_urlsafe(16)
    write_private(files.flower_password, password)
    return password


def read_password(files: StackFiles) -> str | None:
    """The password that the stack's Flower asks for; None where there never was one."""
    try:
        return files.flower_password.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
