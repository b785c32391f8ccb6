"""Writes measured figures into `docs/explanation/capacity.md`, each into the section that a pair of comments marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "capacity.md"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the page has no such section.
    """
    before = page.read_text()
    section = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not section.search(before):
        raise ValueError(f"{page} has no section {name!r}: mark it with <!-- {name} --> and <!-- /{name} -->")
    page.write_text(section.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", before))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
