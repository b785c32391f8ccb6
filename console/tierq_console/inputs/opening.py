"""Opens an input file by its suffix, and refuses what only looks like one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tierq_console.inputs.base import Source
from tierq_shared.errors import InvalidInput

_FOREIGN = {
    b"PK\x03\x04": "is a zip archive or an Excel workbook: save the sheet as CSV (UTF-8)",
    b"\x1f\x8b": "is gzip-compressed: unpack it first (gunzip)",
    b"\xff\xfe": "is UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text: save it as UTF-8",
}
"""How files begin that cannot be read here, and how each is mended."""

_PARQUET = b"PAR1"


def open_source(path: Path) -> Source:
    """The reader for a file.

    Raises:
        InvalidInput: it cannot be read, is empty, or is of a kind that TierQ does not read.
    """
    make = _READERS.get(path.suffix.lower())
    if make is None:
        raise InvalidInput(
            f"{path}: {path.suffix or 'a file without suffix'} is not read here; use {', '.join(_READERS)}"
        )
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    _check_head(path, head, is_parquet=make is _parquet)
    return make(path)


def _check_head(path: Path, head: bytes, *, is_parquet: bool) -> None:
    if not head:
        raise InvalidInput(f"{path}: is empty")
    for start, reason in _FOREIGN.items():
        if head.startswith(start):
            raise InvalidInput(f"{path}: {reason}")
    if head == _PARQUET and not is_parquet:
        raise InvalidInput(f"{path}: is a Parquet file: name it {path.stem}.parquet")


def _csv(path: Path) -> Source:
    from tierq_console.inputs.csv_rows import CsvSource

    return CsvSource(path)


def _jsonl(path: Path) -> Source:
    from tierq_console.inputs.jsonl_rows import JsonlSource

    return JsonlSource(path)


def _parquet(path: Path) -> Source:
    from tierq_console.inputs.parquet_rows import ParquetSource

    return ParquetSource(path)


_READERS: dict[str, Callable[[Path], Source]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _jsonl,
    ".parquet": _parquet,
    ".pq": _parquet,
}
