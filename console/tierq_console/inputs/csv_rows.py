"""CSV: a header, then rows whose quoted fields may hold newlines; each row's place is the line where it begins."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tierq_console.inputs.base import Broken, Row, Source
from tierq_shared.errors import InvalidInput

_FIELD_LIMIT = 16_000_000
"""Characters of one field. A task's text may have a million bytes; what is longer than this is a lost quote."""

_DELIMITERS = ",;\t|"


class CsvSource(Source):
    """A CSV file in UTF-8, with or without a byte order mark. Its delimiter is what its header uses."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self._open() as file:
            self._delimiter = _delimiter(_header_text(file), path)
        with self._open() as file:
            self._columns, _ = self._read_header(self._reader(file))

    @property
    def columns(self) -> Sequence[str]:
        return self._columns

    def rows(self) -> Iterator[Row | Broken]:
        with self._open() as file:
            lines = _Lines(file)
            reader = self._reader(lines)
            _, line = self._read_header(reader)
            while (row := self._next(reader, line + 1, lines)) is not None:
                line = reader.line_num
                if row is not _BLANK:
                    yield row

    def _next(self, reader: Any, line: int, lines: _Lines) -> Row | Broken | None:
        """The next record, which begins at ``line``; None at the end of the file."""
        try:
            fields = next(reader, None)
        except csv.Error as error:
            return self._broken(line, str(error), lines.last)
        if fields is None:
            return None
        if not fields:
            return _BLANK
        if len(fields) != len(self._columns):
            return Broken(line, _wrong_count(len(fields), len(self._columns)), self._delimiter.join(fields))
        return Row(line, dict(zip(self._columns, fields, strict=True)))

    def _broken(self, line: int, error: str, raw: str) -> Broken:
        if "unexpected end of data" in error or "field limit" in error:
            # Where the row ends cannot be told, so nothing after it can be trusted, whatever may be skipped.
            raise InvalidInput(
                f"{self.path}:{line}: a quote opens in this row and is not closed, so all that follows would be read "
                'as one field: close it, or write a quote inside a field as ""'
            )
        return Broken(line, f'is broken CSV ({error}): write a quote inside a quoted field as ""', raw.rstrip("\r\n"))

    def _open(self) -> TextIO:
        # Bytes that are no UTF-8 become lone surrogates, so that only the rows that use them are refused.
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _reader(self, lines: Iterable[str]) -> Any:
        csv.field_size_limit(_FIELD_LIMIT)
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _read_header(self, reader: Any) -> tuple[list[str], int]:
        """The columns, and the last line of the header."""
        try:
            header: list[str] = next((fields for fields in reader if fields), [])
        except csv.Error as error:
            raise InvalidInput(f"{self.path}:1: the header is broken CSV: {error}") from None
        columns = [name.strip() for name in header]
        if not any(columns):
            raise InvalidInput(f"{self.path}: has no header: the first line must name the columns")
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            raise InvalidInput(f"{self.path}:1: two columns are named {twice!r}: rename one")
        return columns, reader.line_num


_BLANK = Row(0, {})


class _Lines:
    """A file's lines, of which the last one is remembered: it is what stands in a row that cannot be parsed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.last = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.last = next(self._file)
        return self.last


def _header_text(file: TextIO) -> str:
    """The first line that is not blank, or as much of it as a header may have."""
    while line := file.readline(1_000_000):
        if line.strip():
            return line
    return ""


def _delimiter(header: str, path: Path) -> str:
    """The first of comma, semicolon, tab and bar that stands outside quotes in the header."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    outside = "".join(header.split('"')[::2])
    return next((mark for mark in _DELIMITERS if mark in outside), ",")


def _wrong_count(found: int, wanted: int) -> str:
    mend = "quote a field that holds the delimiter" if found > wanted else "give every column a field, if an empty one"
    return f"has {found} field{'s' if found != 1 else ''}, the header has {wanted}: {mend}"
