"""Parquet: read a group of rows at a time; its places are row numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tierq_console.inputs.base import Broken, Row, Source
from tierq_shared.errors import InvalidInput, MissingExtra

_GROUP = 1_000
_BUFFER = 1_000_000
"""Bytes read ahead of a column. Without it, the whole of a row group is held, and some writers make one of all rows."""


class ParquetSource(Source):
    """A Parquet file. Its rows are counted from 1."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._parquet = load_parquet()
        try:
            with self._parquet.ParquetFile(path) as file:
                self._columns = list(file.schema_arrow.names)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path}: is no Parquet file that can be read: {_first_line(error)}") from None

    @property
    def columns(self) -> Sequence[str]:
        return self._columns

    def rows(self) -> Iterator[Row | Broken]:
        number = 0
        try:
            with self._parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER) as file:
                for group in file.iter_batches(batch_size=_GROUP):
                    for values in group.to_pylist():
                        number += 1
                        yield Row(number, values)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{self.path}: cannot be read after row {number}: {_first_line(error)}") from None


def load_parquet() -> Any:
    """The Parquet module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingExtra("Parquet files need pyarrow: pip install 'tierq[insight]'") from None
    return parquet


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
