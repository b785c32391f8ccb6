"""The site's navigation: the list of pages under “Documentation” in README.md, which tests hold complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

_LINK = re.compile(r"\]\(([^)#\s]+\.md)\)")
_ITEM = re.compile(r"^(?P<indent> *)- \*{1,2}(?P<title>[^*]+)\*{1,2}:?(?P<rest>.*(?:\n +(?![ -]).*)*)", re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = [{"Home": "index.md"}, *_sections()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that stand beside the code they speak of become pages of the site."""
    for path in listed_outside():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def listed_outside() -> list[str]:
    return [path for path in _LINK.findall(_list_of_pages()) if not path.startswith("docs/")]


def _list_of_pages() -> str:
    return (ROOT / "README.md").read_text().partition("\n## Documentation\n")[2]


def _sections() -> list[dict[str, Any]]:
    """A section for each item of the list; the items below one are sections within it."""
    sections: list[dict[str, Any]] = []
    for indent, title, pages in _items():
        if indent:
            (above,) = sections[-1].values()
            above.append({title: pages})
        else:
            sections.append({title: pages})
    return sections


def _items() -> Iterator[tuple[int, str, list[Any]]]:
    for item in _ITEM.finditer(_list_of_pages()):
        title = item["title"][0].upper() + item["title"][1:]
        yield len(item["indent"]), title, [path.removeprefix("docs/") for path in _LINK.findall(item["rest"])]
