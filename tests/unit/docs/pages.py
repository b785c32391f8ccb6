"""The documentation as data: pages, their fenced blocks, tables, headings and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

_FENCE = re.compile(
    r"^(?P<mark><!-- runs -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool
    """It is marked as one that can be run as it stands."""

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str, pages: list[Path] | None = None) -> list[Block]:
    return [block for page in pages or PAGES for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match["language"], body, match["mark"] is not None)


def without_fences(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def section(page: Path, heading: str) -> str:
    """What stands under a heading, as far as the next one of any level."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", without_fences(page), re.M | re.S)
    assert match, f"{page} has no heading {heading!r}"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their headers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, below in zip_longest(cells, cells[1:]) if not _is_rule(row) and not _is_rule(below)]


def _is_rule(row: list[str] | None) -> bool:
    return row is not None and all(re.fullmatch(r"-+", cell) for cell in row)


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_fences(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(script: str) -> list[list[str]]:
    """The single commands of a shell script, as words, without assignments, pipes and redirections."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()"):
                found.append([one for one in words if not re.fullmatch(r"[A-Z_]+=.*", one)])
                words = []
            elif set(word) <= set("<>"):
                skip = True
            elif skip:
                skip = False
            else:
                words.append(word)
    return [one for one in found if one]
