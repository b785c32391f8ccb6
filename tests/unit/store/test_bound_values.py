"""SQL is only ever composed of our own words: values are bound. Read from the source, and tried with hostile ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
ROOMS = ("shared", "producer", "workers", "insight", "console")

COMPOSERS = {"text", "exec_driver_sql", "execute", "executemany", "executescript", "copy", "scalar", "scalars"}

ALLOWED = {
    "shared/tierq_shared/store/connection.py: f'PRAGMA {pragma}'": "pragmas that stand beside it",
    "shared/tierq_shared/store/connection.py: f'BEGIN {mode}'": "one of two words that stand beside it",
    "workers/tierq_workers/permits/deciders.py: DECIDE + _IN_PROCESS": "Lua, no SQL: two constants of the module",
    "insight/tierq_insight/report/grouping.py: f'SET LOCAL {setting}'": "planner settings that stand beside it",
    "shared/tierq_shared/store/schema.py: f'SELECT version_num FROM {VERSION_TABLE}'": "a constant of the module",
}


def composed(source: str) -> list[str]:
    """Arguments that compose SQL from parts at run time, as they stand in the source."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    runs = [call.args[0] for call in calls if _name(call.func) in COMPOSERS]
    return [ast.unparse(argument) for argument in runs if _is_composed(argument)]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_composed(argument: ast.expr) -> bool:
    if isinstance(argument, ast.BinOp):
        return isinstance(argument.op, ast.Mod | ast.Add)
    is_method = isinstance(argument, ast.Call) and isinstance(argument.func, ast.Attribute)
    if is_method and argument.func.attr in ("format", "join", "replace"):  # type: ignore[union-attr]
        return True
    return isinstance(argument, ast.JoinedStr)


@pytest.mark.parametrize(
    "line",
    [
        "connection.execute(text(f'SELECT {value}'))",
        "connection.execute('SELECT %s' % value)",
        "cursor.execute('SELECT ' + value)",
        "text('SELECT {}'.format(value))",
        "connection.exec_driver_sql(f'{value}')",
    ],
)
def test_the_check_finds_what_it_looks_for(line: str) -> None:
    assert composed(line)


def test_no_statement_is_composed_of_values() -> None:
    found = set()
    for room in ROOMS:
        for path in (TOP / room).rglob("*.py"):
            place = path.relative_to(TOP)
            found |= {f"{place}: {argument}" for argument in composed(path.read_text())}
    assert found == set(ALLOWED)


def test_sql_that_is_named_before_it_is_run_is_named_in_one_place() -> None:
    """An f-string that begins like SQL and is put into a variable would pass by the check above."""
    starts = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "COPY ", "CREATE ", "ALTER ", "DROP ", "WITH ")
    found = set()
    for room in ROOMS:
        for path in (TOP / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr) and ast.unparse(node)[2:].startswith(starts):
                    found.add(path.relative_to(TOP).as_posix())
    assert found <= {"shared/tierq_shared/store/bulk.py", "shared/tierq_shared/store/schema.py"}
