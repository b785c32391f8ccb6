"""Waits are rows in SQL. A message that waits in the broker is redelivered while it does, so none ever may."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "producer", "workers", "simulator", "insight", "console")
DELAYS = {"eta", "countdown"}


def celery_waits(tree: ast.AST) -> Iterator[int]:
    """The lines on which a message is told to wait in the broker, or a Celery task to retry itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            told = {one.arg for one in node.keywords if not _is_none(one.value)}
            if told & DELAYS or _is_celerys_retry(node.func):
                yield node.lineno
        if isinstance(node, ast.Dict) and any(_names_a_delay(key) for key in node.keys):
            yield node.lineno


def _is_celerys_retry(called: ast.expr) -> bool:
    """`self.retry(…)` of a bound Celery task; a batch's own `retry` is another matter."""
    owner = called.value if isinstance(called, ast.Attribute) and called.attr == "retry" else None
    return isinstance(owner, ast.Name) and owner.id in ("self", "task", "current_task")


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _names_a_delay(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and key.value in DELAYS


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_ever_waits_in_the_broker(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in celery_waits(ast.parse(file.read_text()))]
    assert not found, f"a Celery countdown, ETA or retry: {', '.join(found)}"


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("send(countdown=5)", True),
        ("send(**{'eta': at})", True),
        ("self.retry()", True),
        ("send(eta=None)", False),
        ("retry(2)", False),
    ],
)
def test_such_waits_are_found(code: str, waits: bool) -> None:
    assert bool(list(celery_waits(ast.parse(code)))) is waits
