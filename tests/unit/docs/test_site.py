"""The documentation as a site: it builds without a warning, and what it refers to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from unit.docs.pages import ROOT, blocks

ASSETS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
MARKDOWN = re.compile(r"^\s*(```|- \S|\d+\. \S|\|.*\|)", re.M)
"""What a list, a table or a fence looks like where it was not understood as one."""


class Page(HTMLParser):
    """What a built page refers to, may be referred to by, and says in its paragraphs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.assets: list[str] = []
        self.anchors: set[str] = set()
        self.paragraphs = ""
        self.code_blocks = 0
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open += [tag] if tag in ("p", "code") else []
        self.code_blocks += tag == "div" and "highlight" in (dict(attrs).get("class") or "")
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if value and (tag, name) in ASSETS and dict(attrs).get("rel") not in ("canonical", "prev", "next"):
                self.assets.append(value)
            elif value and (tag, name) == ("a", "href"):
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        if self._open[-1:] == [tag]:
            self._open.pop()
            self.paragraphs += "\n" if tag == "p" else ""

    def handle_data(self, data: str) -> None:
        self.paragraphs += data if self._open == ["p"] else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_is_built_and_in_the_navigation(site: Path, built: dict[Path, Page]) -> None:
    home = built[site / "index.html"]
    linked = {(site / urlsplit(link).path).resolve() for link in home.links if not urlsplit(link).netloc}
    pages = {site / page.relative_to(ROOT / "docs").with_suffix(".html") for page in ROOT.glob("docs/**/*.md")}
    assert pages <= set(built)
    assert {str(page.relative_to(site)) for page in set(built) - linked} == set()


def test_every_link_and_picture_leads_somewhere(site: Path, built: dict[Path, Page]) -> None:
    for page in built.values():
        for target in [*page.links, *page.assets]:
            url = urlsplit(target)
            if url.scheme in ("https", "mailto"):
                continue
            path = (page.path.parent / unquote(url.path)).resolve() if url.path else page.path
            assert path.is_relative_to(site), (page.path, target)
            assert path.is_file() or (path / "index.html").is_file(), (page.path, target)
            assert not url.fragment or path not in built or unquote(url.fragment) in built[path].anchors, target


def test_links_out_of_the_documentation_lead_to_the_sources(built: dict[Path, Page]) -> None:
    outside = {link for page in built.values() for link in page.links if link.startswith("https://github.com/tierq/")}
    prefix = "https://github.com/tierq/tierq/tree/main/"
    assert f"{prefix}examples/django_app.py" in outside
    assert [link for link in outside if not (ROOT / link.removeprefix(prefix)).exists()] == []


def test_no_page_asks_another_host_for_anything(site: Path, built: dict[Path, Page]) -> None:
    assert [asset for page in built.values() for asset in page.assets if urlsplit(asset).netloc] == []
    styles = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert [style for style in styles if re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style)] == []


def test_what_github_shows_as_a_list_a_table_or_a_block_is_one_here(site: Path, built: dict[Path, Page]) -> None:
    assert [(path.name, found[0]) for path, page in built.items() if (found := MARKDOWN.search(page.paragraphs))] == []
    for page in ROOT.glob("docs/**/*.md"):
        text = page.read_text()
        fences = len(re.findall(r"^ *```\w", text, re.M))
        assert built[site / page.relative_to(ROOT / "docs").with_suffix(".html")].code_blocks >= fences, page
    assert blocks("toml")
