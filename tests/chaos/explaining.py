"""How a store means to run each statement that a piece of code gives it, asked at that very moment."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Index, event

from tierq_shared.store.tables import metadata

_KINDS = ("task", "payload", "attempt", "decision", "batch", "chunk", "tally", "evidence")
GROWING = frozenset(f"tierq_{name}" for name in _KINDS)
"""Tables that hold more the more tasks there are."""

_INDEXES: dict[str, Index] = {str(index.name): index for table in metadata.tables.values() for index in table.indexes}
_EXPLAINABLE = ("SELECT", "UPDATE", "DELETE", "WITH")
"""An INSERT of values has no plan."""


@dataclass(frozen=True)
class Step:
    """One access to a table in a plan."""

    table: str
    index: str | None
    is_scan: bool
    """It goes through all of a growing table, or of an index over all of it."""

    def __str__(self) -> str:
        how = self.index.removeprefix("tierq_") if self.index else "all of it" if self.is_scan else "whole, being small"
        return f"{self.table.removeprefix('tierq_')}: {how}"


@dataclass
class Statement:
    """A statement with its plan, as often as it was run."""

    text: str
    steps: list[Step]
    times: int = 0
    """How many sets of parameters it ran with."""
    ms: float = 0.0
    """For all of them."""

    @property
    def scans(self) -> list[Step]:
        return [step for step in self.steps if step.is_scan]


@dataclass
class Explained:
    """The statements of one piece of code, in the order in which they first ran."""

    statements: dict[str, Statement] = field(default_factory=dict)

    def note(self, text: str, steps: list[Step]) -> Statement:
        """A statement with other lists of ids is the same statement."""
        shape = re.sub(r"\([^()]*(?:%\(\w+\)s|\?)[^()]*\)", "(…)", text)
        return self.statements.setdefault(shape, Statement(text, steps))


@contextmanager
def explained(engine: Engine) -> Iterator[Explained]:
    """Explains and times what runs inside the block."""
    found = Explained()
    before, after = partial(_before, found), partial(_after, found)
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)


def _before(found: Explained, connection: Connection, *arguments: Any) -> None:
    _cursor, text, parameters, context, many = arguments
    if not text.lstrip().startswith(_EXPLAINABLE):
        return
    first = parameters[0] if many else parameters
    cursor = connection.connection.cursor()
    statement = found.note(text, _plan(connection.dialect.name, cursor, text, first))
    statement.times += len(parameters) if many else 1
    context.tierq_statement = statement
    # SQLite runs a SELECT only as far as it is read: it is timed here, with all its rows.
    if text.lstrip().startswith("SELECT"):
        began = time.perf_counter()
        cursor.execute(text, first)
        cursor.fetchall()
        statement.ms += (time.perf_counter() - began) * 1000
        context.tierq_began = None
    else:
        context.tierq_began = time.perf_counter()
    cursor.close()


def _after(_found: Explained, *arguments: Any) -> None:
    *_, context, _many = arguments
    if (began := getattr(context, "tierq_began", None)) is not None:
        context.tierq_statement.ms += (time.perf_counter() - began) * 1000


def _plan(dialect: str, cursor: Any, text: str, parameters: Any) -> list[Step]:
    if dialect == "sqlite":
        cursor.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
        ends_soon = "LIMIT" in text and "WHERE" not in text
        lines: Sequence[str] = [row[3] for row in cursor.fetchall()]
        return _distinct([step for line in lines if (step := _sqlite_step(line, ends_soon=ends_soon))])
    steps = _postgres_plan(cursor, text, parameters)
    small = {step.table for step in steps if step.is_scan and _pages(cursor, step.table) < _SMALL_PAGES}
    if not small:
        return steps
    # A small table is read whole because that is cheaper; whether there is an index for later days is asked apart.
    cursor.execute("SET enable_seqscan = off")
    grown = {step.table for step in _postgres_plan(cursor, text, parameters) if step.is_scan}
    cursor.execute("RESET enable_seqscan")
    return [replace(step, is_scan=step.is_scan and step.table not in small - grown) for step in steps]


def _postgres_plan(cursor: Any, text: str, parameters: Any) -> list[Step]:
    cursor.execute(f"EXPLAIN (FORMAT JSON) {text}", parameters)
    return _distinct(list(_postgres_steps(cursor.fetchone()[0][0]["Plan"], ends_soon=False)))


_SMALL_PAGES = 2_000
"""16 MB."""


def _pages(cursor: Any, table: str) -> int:
    cursor.execute("SELECT pg_relation_size(%s) / 8192", (table,))
    return int(cursor.fetchone()[0])


def _distinct(steps: list[Step]) -> list[Step]:
    return list(dict.fromkeys(steps))


_SQLITE_LINE = re.compile(r"(SCAN|SEARCH) (tierq_\w+)(?: USING (?:COVERING )?INDEX (\w+)| USING INTEGER PRIMARY KEY)?")


def _sqlite_step(line: str, *, ends_soon: bool) -> Step | None:
    """`SCAN` goes through everything; a partial index holds only what is looked for."""
    match = _SQLITE_LINE.match(line)
    if match is None:
        return None
    how, table, index = match.groups()
    whole = how == "SCAN" and table in GROWING and not _is_partial(index) and not (ends_soon and index)
    return Step(table, _named(index, table), whole)


def _postgres_steps(node: dict[str, Any], *, ends_soon: bool) -> Iterator[Step]:
    kind, index = node["Node Type"], node.get("Index Name")
    table = node.get("Relation Name") or (_INDEXES[index].table.name if index in _INDEXES else None)
    if kind in ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan") and (table or index):
        table = table or str(index).removesuffix("_pkey")
        bounded = "Index Cond" in node or _is_partial(index) or (ends_soon and index and "Filter" not in node)
        yield Step(table, _named(index, table), table in GROWING and not bounded)
    for child in node.get("Plans", ()):
        yield from _postgres_steps(child, ends_soon=kind == "Limit" or (ends_soon and kind == "Nested Loop"))


def _is_partial(index: str | None) -> bool:
    found = _INDEXES.get(index or "")
    return found is not None and found.dialect_options["postgresql"]["where"] is not None


def _named(index: str | None, table: str) -> str | None:
    """Both stores' names of a primary key are one word here."""
    if index is None:
        return None
    return "primary key" if index.endswith("_pkey") or index == f"sqlite_autoindex_{table}_1" else index
