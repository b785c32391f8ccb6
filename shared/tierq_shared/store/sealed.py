"""Private texts at rest: encrypted where the environment has keys for it, else as they are."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Label, Text, type_coerce
from sqlalchemy.types import TypeDecorator

from tierq_shared import environment
from tierq_shared.errors import ConfigurationError, MissingExtra, PayloadLocked

KEYS_VARIABLE = "TIERQ_PAYLOAD_KEYS"
"""Fernet keys with commas between: the first one encrypts, all of them decrypt."""

_SEALED = "fernet:"
_PLAIN = "plain:"
_AMBIGUOUS = re.compile(r"(?:plain:)*fernet:")
"""How a text may begin that nobody has encrypted, such as a provider's message: it is kept behind `plain:`."""


class Cipher:
    """The keys of one process."""

    def __init__(self, keys: list[str]) -> None:
        """Takes them in order, the one that encrypts first.

        Raises:
            ConfigurationError: one of them is no Fernet key.
            MissingExtra: the library is not installed.
        """
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ModuleNotFoundError:
            raise MissingExtra("encrypted payloads need their extra: pip install 'tierq[encryption]'") from None
        boxes = []
        for number, key in enumerate(keys, 1):
            try:
                boxes.append(Fernet(key))
            except ValueError:
                raise ConfigurationError(
                    f"{KEYS_VARIABLE}: key {number} of {len(keys)} is no Fernet key: `tierq rekey --new` prints one"
                ) from None
        self.keys = len(keys)
        self._first, self._all = boxes[0], MultiFernet(boxes)

    def seal(self, text: str) -> str:
        """A text, encrypted with the first key."""
        return _SEALED + self._first.encrypt(text.encode()).decode()

    def open(self, stored: str) -> str:
        """The text of an encrypted one.

        Raises:
            PayloadLocked: no key opens it.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._all.decrypt(stored.removeprefix(_SEALED)).decode()
        except InvalidToken:
            raise PayloadLocked(
                f"a payload is encrypted with a key that {KEYS_VARIABLE} does not have: add the one it was written with"
            ) from None

    def is_current(self, stored: str) -> bool:
        """Whether a stored text is encrypted with the first key."""
        from cryptography.fernet import InvalidToken

        if not stored.startswith(_SEALED):
            return False
        try:
            self._first.decrypt(stored.removeprefix(_SEALED))
        except InvalidToken:
            return False
        return True


@cache
def cipher() -> Cipher | None:
    """The keys of the environment, read once a process; None where there are none.

    Raises:
        ConfigurationError: they cannot be used.
    """
    secret = environment.read(KEYS_VARIABLE, os.environ)
    return None if secret is None else Cipher([key.strip() for key in secret.value.split(",")])


def new_key() -> str:
    """A fresh key.

    Raises:
        MissingExtra: the library is not installed.
    """
    try:
        from cryptography.fernet import Fernet
    except ModuleNotFoundError:
        raise MissingExtra("encrypted payloads need their extra: pip install 'tierq[encryption]'") from None
    return Fernet.generate_key().decode()


def seal(text: str) -> str:
    """A private text as it is stored."""
    if (keys := cipher()) is not None:
        return keys.seal(text)
    return _PLAIN + text if text.startswith((_SEALED, _PLAIN)) and _AMBIGUOUS.match(text) else text


def unseal(stored: str) -> str:
    """A private text of what is stored, whether that is encrypted or was written before anything was.

    Raises:
        PayloadLocked: it is encrypted, and no key here opens it.
    """
    if not stored.startswith((_SEALED, _PLAIN)):
        return stored
    if stored.startswith(_PLAIN):
        return stored.removeprefix(_PLAIN) if _AMBIGUOUS.match(stored) else stored
    keys = cipher()
    if keys is None:
        raise PayloadLocked(f"a payload is encrypted: set {KEYS_VARIABLE} to the keys it was written with")
    return keys.open(stored)


class Sealed(TypeDecorator[str]):
    """A column of private texts."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else seal(value)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else unseal(value)


def as_stored(column: ColumnElement[Any]) -> Label[str]:
    """A column of private texts, for whoever wants to open each of them himself."""
    return type_coerce(column, Text).label(getattr(column, "name", None))
