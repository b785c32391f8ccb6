"""Links as they hold in the repository, made links of the site: to its pages, or to the sources online."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import PurePosixPath

from mkdocs.structure.pages import Page
from navigation import ROOT, listed_outside

_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.M | re.S)

_URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
_SOURCES = _URLS["Documentation"].removesuffix("/docs")


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    place = _in_repository(page.file.src_uri)
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _on_site(link, place), part) for part in parts[::2]]
    return "".join(parts)


def _in_repository(page: str) -> PurePosixPath:
    return PurePosixPath(page if page in listed_outside() else f"docs/{page}")


def _on_site(link: re.Match[str], place: PurePosixPath) -> str:
    target = os.path.normpath(place.parent / link["path"])
    anchor = link["anchor"] or ""
    if target not in listed_outside() and not target.startswith("docs/"):
        return f"{_SOURCES}/{target}{anchor}"
    page, onto = (str(one).removeprefix("docs/") for one in (place, target))
    return os.path.relpath(onto, PurePosixPath(page).parent) + anchor
