"""Writes measured figures into `docs/reliability.md`, each into the section that a pair of comments marks."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def write_section(name: str, text: str) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the page has no such section.
    """
    page = PAGE.read_text()
    section = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not section.search(page):
        raise ValueError(f"{PAGE} has no section {name!r}: mark it with <!-- {name} --> and <!-- /{name} -->")
    PAGE.write_text(section.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", page))
