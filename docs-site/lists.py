"""Lists as GitHub reads them. The site wants four spaces before what belongs to an item, and a blank line after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ITEM = re.compile(r"(- |\d+\. )")
_FENCE = re.compile(r"^(```.*?^```)$", re.M | re.S)


def on_page_markdown(markdown: str, **_: object) -> str:
    parts = _FENCE.split(markdown)
    parts[::2] = ["".join(_respaced(part.splitlines(keepends=True))) for part in parts[::2]]
    return "".join(parts)


def _respaced(lines: list[str]) -> Iterator[str]:
    missing, is_first, was_blank, has_blocks = "", False, False, False
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        if indent and is_first:
            # An item's first indented line says how far all of them are.
            missing, is_first = " " * (4 - indent), False
        has_blocks |= bool(indent) and was_blank
        if not indent and line.strip():
            if has_blocks and not was_blank:
                yield "\n"
            missing, is_first, has_blocks = "", bool(_ITEM.match(line)), False
        was_blank = not line.strip()
        yield missing + line if indent else line
