"""JSONL: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from tierq_console.inputs.base import Broken, Row, Source
from tierq_shared.errors import InvalidInput

_LINE_LIMIT = 64_000_000
"""Bytes of one line. The largest task has far fewer; a longer line is no JSONL."""

_BOM = b"\xef\xbb\xbf"
_RAW_SHOWN = 2_000


class JsonlSource(Source):
    """A file of JSON objects, one a line, in UTF-8 with or without a byte order mark."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            start = file.read(4096).removeprefix(_BOM).lstrip()
        if start.startswith(b"["):
            raise InvalidInput(
                f"{path}: is one JSON array; write one object a line, for instance with: jq -c '.[]' {path.name}"
            )

    def rows(self) -> Iterator[Row | Broken]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(_LINE_LIMIT):
                number += 1
                if len(line) == _LINE_LIMIT:
                    raise InvalidInput(f"{self.path}:{number}: is longer than {_LINE_LIMIT:,} bytes: split it")
                text = (line.removeprefix(_BOM) if number == 1 else line).strip()
                if text:
                    yield _parse(number, text)


def _parse(number: int, text: bytes) -> Row | Broken:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Broken(number, _reason(text, error), _shown(text))
    if not isinstance(value, dict):
        return Broken(
            number, f"is a JSON {type(value).__name__}, not an object: write {{…}} on each line", _shown(text)
        )
    return Row(number, value)


def _reason(text: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as bad:
        return f"byte {text[bad.start]:#04x} at {bad.start} is not UTF-8: save the file as UTF-8"
    if "surrogate" in error.msg:
        return f"holds a lone surrogate ({error.msg}): no valid Unicode text; remove the \\ud… escape"
    return f"is broken JSON ({error.msg} at character {error.pos}): write one whole object on the line"


def _shown(text: bytes) -> str:
    return text[:_RAW_SHOWN].decode("utf-8", "backslashreplace")
