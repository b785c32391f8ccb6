"""Texts out of the nested values that request logs are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tierq_insight.audit.call import Unreadable

_TEXT_KEYS = ("text", "content", "input_text", "output_text")
_MEDIA = ("image", "image_url", "input_image", "input_audio", "input_file", "audio", "document", "file")


def text_of(content: object) -> str:
    """The text of a message's content: a text, or a list of parts. Parts that are no text have none."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text for part in content if (text := text_of(part)))
    if isinstance(content, dict):
        return next((text_of(content[key]) for key in _TEXT_KEYS if isinstance(content.get(key), str | list)), "")
    return ""


def media_in(content: object) -> int:
    """How many parts of a message's content are no text."""
    if not isinstance(content, list):
        return 0
    return sum(isinstance(part, dict) and part.get("type") in _MEDIA for part in content)


def table(value: object, field: str) -> Mapping[str, Any]:
    """An object, also where a CSV column or a log holds it as JSON text.

    Raises:
        Unreadable: it is none.
    """
    value = unpacked(value, field)
    if not isinstance(value, dict):
        raise Unreadable(f"must be a JSON object, not {_kind(value)}", field)
    return value


def unpacked(value: object, field: str) -> Any:
    """The value; where it is a text that begins like JSON, what that holds.

    Raises:
        Unreadable: it begins like JSON and is none.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return orjson.loads(value)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        raise Unreadable("is broken JSON: write one whole JSON value, or plain text", field) from None


def optional_table(value: object) -> Mapping[str, Any]:
    """An object where there is one, else an empty one: for what a log may lack."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = orjson.loads(value)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return {}
    # A plain dict is what every reader gives; asking for a Mapping here took a tenth of an audit's time.
    return value if isinstance(value, dict) else {}


def optional_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def as_json(value: object) -> str:
    """A value of a log as compact JSON; what orjson cannot write (a Parquet date) as its text."""
    return orjson.dumps(value, default=str).decode()


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
