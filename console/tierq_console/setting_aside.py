"""Keeps the rows that `--skip-bad` leaves out, each with its place and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from tierq_console.inputs import Broken, Row


class Aside:
    """The file of bad rows: written beside its final name, and renamed when the pass is through."""

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._enabled = enabled
        self._file: BinaryIO | None = None

    def add(self, line: int, field: str | None, reason: str, row: Row | Broken) -> None:
        if not self._enabled:
            return
        if self._file is None:
            self._file = self._part.open("wb")
        content = row.raw if isinstance(row, Broken) else dict(row.values)
        self._file.write(_json({"line": line, "field": field, "reason": reason, "row": content}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._part.replace(self._path)
        elif self._enabled and kind is None:
            # What an earlier run set aside is mended by now.
            self._path.unlink(missing_ok=True)


def _json(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_storable(value), default=str, option=orjson.OPT_APPEND_NEWLINE)


def _storable(value: Any) -> Any:
    """The value with every byte that is no UTF-8 written out as `\\xe9`."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_storable(str(name)): _storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return value
