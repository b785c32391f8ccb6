"""What the readers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tierq_shared.checks import did_you_mean
from tierq_shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Row:
    """One row that could be read, and where it begins."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """One row that could not be read: why, and what stands there."""

    line: int
    reason: str
    raw: str


class Source(ABC):
    """An input file. It can be read more than once; each time gives the same rows."""

    unit: ClassVar[str] = "line"
    """What its places are called: a Parquet file has rows, the others have lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def columns(self) -> Sequence[str] | None:
        """The columns that every row has; None where each row names its own fields."""
        return None

    @abstractmethod
    def rows(self) -> Iterator[Row | Broken]:
        """All rows in order. Raises InvalidInput where nothing that follows can be trusted."""

    def require_columns(self, names: Mapping[str, str]) -> None:
        """Refuses the file where it lacks a column; ``names`` are the columns by the option that named them.

        Raises:
            InvalidInput: a column is missing; the message says which was probably meant.
        """
        if self.columns is None:
            return
        for option, name in names.items():
            if name not in self.columns:
                listed = ", ".join(self.columns)
                raise InvalidInput(
                    f"{self.path}: there is no column {name!r}{did_you_mean(name, self.columns)}; "
                    f"the columns are {listed}: name the right one with {option}"
                )
