"""Takes out of a provider's message what it repeats of the request: the key, and the prompt.

The message goes into the ledger, which is read by more people than the prompts are, and into outcomes and logs of apps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

SHORTEST_QUOTE = 20
"""Characters that a message may not share with the prompt. Shorter runs are words that everybody uses."""
SHORTEST_SECRET = 8
"""The same for the values of headers: providers show the last 4 characters of a key to tell which one was meant."""

_PLAIN_HEADERS = frozenset({"content-type", "accept", "user-agent", "anthropic-version", "x-client-request-id"})
"""All others may hold a secret."""
_ESCAPED = re.compile(r"\\u(?![dD][89a-fA-F])([0-9a-fA-F]{4})")
_MASK = "***"


def without_secrets(text: str, headers: Mapping[str, str]) -> str:
    """``text`` without what it shares with the request's headers that may hold a secret."""
    secrets = "\n".join(value for name, value in headers.items() if name not in _PLAIN_HEADERS)
    return masked(text, secrets, SHORTEST_SECRET)


def without_prompt(text: str, body: bytes) -> str:
    """``text`` without what it shares with the texts in the request's body."""
    return masked(_unescaped(text), _prompt(body), SHORTEST_QUOTE)


def masked(text: str, source: str, shortest: int) -> str:
    """``text`` with stars for every run of at least ``shortest`` characters that ``source`` has as well."""
    if not _may_share(text, source, shortest):
        return text
    kept: list[str] = []
    at = 0
    while at < len(text):
        length = _shared_run(text, source, at, shortest)
        kept.append(_MASK if length else text[at])
        at += length or 1
    return "".join(kept)


def _may_share(text: str, source: str, shortest: int) -> bool:
    """A cheap look first: a run that long holds one of the source's blocks of half its length."""
    size = (shortest + 1) // 2
    pieces = {text[at : at + size] for at in range(len(text) - size + 1)}
    return not pieces.isdisjoint(source[at : at + size] for at in range(0, len(source), size))


def _shared_run(text: str, source: str, at: int, shortest: int) -> int:
    """How many characters from ``at`` on stand in the source too; 0 where they are too few."""
    place = source.find(text[at : at + shortest]) if len(text) - at >= shortest else -1
    if place < 0:
        return 0
    length = shortest
    while at + length < len(text) and text[at + length] == source[place + length : place + length + 1]:
        length += 1
    return length


def _prompt(body: bytes) -> str:
    """All texts of the request's body but the model's name, with single spaces as in messages."""
    fields = orjson.loads(body)
    return "\n".join(" ".join(text.split()) for name in fields if name != "model" for text in _texts(fields[name]))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(child)


def _unescaped(message: str) -> str:
    """JSON that is quoted inside a message spells other alphabets as escapes."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), message)
