"""What all tables are made of: their registry, their base, and the kinds of their columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Index, String, Table, Text, literal_column, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from tierq_shared.store.clock import UtcDateTime
from tierq_shared.store.sealed import Sealed

_registry = registry()
metadata = _registry.metadata


class TierQTable(SQLModel, registry=_registry):
    """The base of TierQ's tables."""


def id_column(**options: Any) -> Any:
    """An id column. Ids compare byte by byte: a language's collation would cost time and mean nothing."""
    collated = String(32).with_variant(String(32, collation="C"), "postgresql")
    default = None if options.get("nullable") else ...
    return Field(default, sa_type=collated, **options)


def time_column(**options: Any) -> Any:
    return Field(default=None, sa_type=UtcDateTime, **options)


def text_column(**options: Any) -> Any:
    return Field(default=None, sa_type=Text, **options)


def private_column() -> Any:
    """A text that is encrypted where the environment has keys for it."""
    return Field(default=None, sa_type=Sealed)


def money_column() -> Any:
    """Nano-USD; NULL where the price is unknown."""
    return Field(default=None, sa_type=BigInteger)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the few rows that are still looked for, so that ended tasks cost nothing."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


def core_table(model: type[SQLModel]) -> Table:
    return model.__table__  # type: ignore[attr-defined, no-any-return]


def is_word(column: Column[str], word: str) -> ColumnElement[bool]:
    """`column = 'word'`, with one of our own words in the statement itself.

    As a parameter it would hide from a prepared statement's plan that a partial index holds all that is looked for.
    """
    return column == literal_column(f"'{word}'")
