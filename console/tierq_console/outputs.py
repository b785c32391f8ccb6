"""Writes outcomes as rows: JSONL, CSV or Parquet by the suffix, under the final name only when all are written."""

from __future__ import annotations

import csv
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson
from pydantic import BaseModel

from tierq_console.inputs.parquet_rows import load_parquet
from tierq_shared.errors import InvalidInput
from tierq_shared.outcomes import Outcome

COLUMNS = (
    "key",
    "state",
    "output",
    "tier",
    "deployment",
    "model",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "error_code",
    "error",
)
"""What an outcome's row holds, in this order."""

INTEGERS = ("attempts", "input_tokens", "output_tokens")
STDOUT = Path("-")

_GROUP = 2_000


def row_of(outcome: Outcome[Any]) -> dict[str, Any]:
    """An outcome as a row; costs are exact decimals in text, null where the price is unknown."""
    output, error, cost = outcome.output, outcome.error, outcome.cost_usd
    return {
        "key": outcome.key,
        "state": outcome.state.value,
        "output": output.model_dump(mode="json") if isinstance(output, BaseModel) else output,
        "tier": outcome.tier,
        "deployment": outcome.deployment,
        "model": outcome.model,
        "attempts": outcome.attempts,
        "input_tokens": outcome.usage.input_tokens,
        "output_tokens": outcome.usage.output_tokens,
        "cost_usd": None if cost is None else f"{cost:f}",
        "error_code": error.code if error else None,
        "error": error.message if error else None,
    }


class RowWriter(ABC):
    """Writes rows of one set of columns to an open file."""

    @abstractmethod
    def write(self, row: dict[str, Any]) -> None:
        """Adds a row."""

    @abstractmethod
    def finish(self) -> None:
        """Writes what is left, so that the file is whole."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file, whole or not."""


class JsonlWriter(RowWriter):
    """One JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def finish(self) -> None:
        _settle(self._file)

    def close(self) -> None:
        self._file.close()


class CsvWriter(RowWriter):
    """Texts as they are, lists and objects as JSON, nothing for what is not known."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._columns = columns
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, row: dict[str, Any]) -> None:
        self._writer.writerow([_as_text(row[name]) for name in self._columns])

    def finish(self) -> None:
        _settle(self._file)

    def close(self) -> None:
        self._file.close()


class ParquetWriter(RowWriter):
    """Columns of text and integers; lists and objects as JSON."""

    def __init__(self, path: Path, columns: Sequence[str], integers: Sequence[str]) -> None:
        self._parquet = load_parquet()
        import pyarrow as pa

        self._pa = pa
        self._schema = pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in columns])
        self._writer = self._parquet.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []
        self._integers = integers

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append({name: value if name in self._integers else _as_text(value) for name, value in row.items()})
        if len(self._rows) >= _GROUP:
            self._flush()

    def finish(self) -> None:
        if self._rows:
            self._flush()

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def check_output(
    path: Path, source: Path | None = None, *, suffixes: Sequence[str] = (), option: str = "--out"
) -> None:
    """Refuses, before anything is spent, an output that could not be written in the end.

    Raises:
        InvalidInput: its kind is unknown, its folder is missing or closed, or it is the input itself.
    """
    if path == STDOUT and not suffixes:
        return
    known = tuple(suffixes) or tuple(_WRITERS)
    if path.suffix.lower() not in known:
        rest = "" if suffixes else ", or - for JSONL on stdout"
        raise InvalidInput(f"{option} {path}: is written by its suffix; use {', '.join(known)}{rest}")
    if path.suffix.lower() in _PARQUET:
        load_parquet()
    if path.is_dir():
        raise InvalidInput(f"{option} {path}: is a folder: name a file")
    if not path.resolve().parent.is_dir():
        raise InvalidInput(f"{option} {path}: there is no folder {path.parent}: make it first")
    if not os.access(path.resolve().parent, os.W_OK):
        raise InvalidInput(f"{option} {path}: the folder {path.parent} cannot be written to")
    if source is not None and path.resolve() == source.resolve():
        raise InvalidInput(f"{option} {path}: is the input itself: choose another name")


@contextmanager
def writing(path: Path, columns: Sequence[str] = COLUMNS, integers: Sequence[str] = INTEGERS) -> Iterator[RowWriter]:
    """A writer for a path, `-` being stdout. The file gets its name when all is written, and else leaves no trace."""
    if path == STDOUT:
        yield JsonlWriter(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    part = _part(path)
    try:
        with closing(_open_writer(part, path.suffix.lower(), columns, integers)) as writer:
            yield writer
            writer.finish()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """A text file that gets its name when all of it is written."""
    part = _part(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(content)
            _settle(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _open_writer(part: Path, suffix: str, columns: Sequence[str], integers: Sequence[str]) -> RowWriter:
    if suffix in _PARQUET:
        return ParquetWriter(part, columns, integers)
    if suffix == ".csv":
        return CsvWriter(part, columns)
    return JsonlWriter(part.open("wb"))


def _as_text(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list | dict | bool | float) else _text_or_none(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _settle(file: BinaryIO | TextIO) -> None:
    """Brings a file's content to disk, so that the final name never stands for less than all of it."""
    file.flush()
    os.fsync(file.fileno())


_PARQUET = (".parquet", ".pq")
_WRITERS = (".jsonl", ".ndjson", ".csv", *_PARQUET)
