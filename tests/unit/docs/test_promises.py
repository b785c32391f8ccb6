"""What the page of promises names as its evidence is there."""

from __future__ import annotations

import re

from unit.docs.pages import ROOT, names, without_fences

PAGE = without_fences(ROOT / "docs" / "explanation" / "what-is-promised.md")
FIGURES = (ROOT / "docs" / "reliability.md").read_text()


def test_every_scenario_that_a_promise_names_was_run() -> None:
    scenarios = [
        name for name in names(PAGE) if re.fullmatch(r"[a-z]+(-[a-z]+)+", name) and name != "x-client-request-id"
    ]
    assert len(set(scenarios)) > 15
    assert [name for name in scenarios if f"\n| {name} |" not in FIGURES] == []


def test_every_test_that_a_promise_names_exists() -> None:
    files = [name for name in names(PAGE) if name.endswith(".py")]
    assert files
    assert [name for name in files if not list((ROOT / "tests").rglob(name.rpartition("/")[2]))] == []
    assert [name for name in files if "/" in name and not (ROOT / name).exists()] == []
