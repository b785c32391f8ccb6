"""Checks on what a user hands in: each raises `InvalidTask` with the field at fault and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from tierq_shared.errors import InvalidTask

MAX_INPUT_BYTES = 1_000_000
MAX_INSTRUCTIONS_BYTES = 100_000
MAX_KEY_CHARS = 200
MAX_TAGS = 16
MAX_TAG_CHARS = 200


def text(value: object, field: str, *, max_bytes: int = MAX_INPUT_BYTES, empty: bool = False) -> str:
    """The value as text that every store and provider can hold.

    NUL characters cannot be stored by PostgreSQL, lone surrogates cannot be encoded as UTF-8.
    """
    if not isinstance(value, str):
        raise InvalidTask(f"must be text, not {type(value).__name__}", field=field)
    if not empty and not value.strip():
        raise InvalidTask("is empty: give some text, or leave the task out", field=field)
    if "\x00" in value:
        raise InvalidTask("holds a NUL character (\\x00): remove it", field=field)
    surrogate = _first_surrogate(value)
    if surrogate is not None:
        raise InvalidTask(
            f"holds a lone surrogate at character {surrogate}: no valid Unicode text; decode the source as UTF-8",
            field=field,
        )
    size = size_in_bytes(value)
    if size > max_bytes:
        raise InvalidTask(f"is {size:,} bytes; the limit is {max_bytes:,}: split or shorten it", field=field)
    return value


def _first_surrogate(value: str) -> int | None:
    # Its own exception holds all of the text: it must not be the context of the one that the caller gets.
    try:
        size_in_bytes(value)
    except UnicodeEncodeError as error:
        return error.start
    return None


def size_in_bytes(value: str) -> int:
    """The length of a text as UTF-8. Most texts are ASCII, and need no encoding to be judged."""
    return len(value) if value.isascii() else len(value.encode())


def optional_text(value: object, field: str, *, max_bytes: int = MAX_INPUT_BYTES) -> str | None:
    return None if value is None else text(value, field, max_bytes=max_bytes)


def key(value: object) -> str | None:
    """A task's own key. Numbers are taken as their text, since keys often come from integer columns."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    value = text(value, "key")
    if len(value) > MAX_KEY_CHARS:
        raise InvalidTask(f"is {len(value)} characters; the limit is {MAX_KEY_CHARS}", field="key")
    return value


def choice(value: object, field: str, allowed: Iterable[str]) -> str:
    """One of a few words."""
    names = list(allowed)
    if value not in names:
        raise InvalidTask(f"{value!r} is not one of {', '.join(names)}{did_you_mean(str(value), names)}", field=field)
    return str(value)


def string_map(value: object, field: str) -> dict[str, str]:
    """A small mapping of text to text, as tags and `require` are."""
    if not isinstance(value, Mapping):
        raise InvalidTask(f"must be a mapping of text to text, not {type(value).__name__}", field=field)
    if len(value) > MAX_TAGS:
        raise InvalidTask(f"has {len(value)} entries; the limit is {MAX_TAGS}", field=field)
    for name, entry in value.items():
        for part in (name, entry):
            if len(text(part, field)) > MAX_TAG_CHARS:
                raise InvalidTask(f"an entry is longer than {MAX_TAG_CHARS} characters", field=field)
    return dict(value)


def known_fields(given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuses a field that does not exist, with the one that was probably meant."""
    names = sorted(allowed)
    for name in given:
        if name not in names:
            raise InvalidTask(
                f"there is no such field{did_you_mean(name, names)}; the fields are {', '.join(names)}", field=name
            )


def did_you_mean(name: str, names: Iterable[Any]) -> str:
    """`` (did you mean 'small'?)`` where something close exists, else nothing."""
    close = difflib.get_close_matches(name, [str(one) for one in names], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def printable(text: str) -> str:
    """`text` on one line, without control, format and other characters that a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
