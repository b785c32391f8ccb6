"""Every page holds: links lead somewhere, configurations load, Python compiles, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tierq_console.commands import group
from tierq_shared import configuration
from tierq_shared.policy_files import read_policy_file
from unit.docs.pages import PAGES, ROOT, Block, anchors, blocks, commands, without_fences

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
WRITTEN_LATER = {"bench/README.md"}
"""`make bench` writes it."""


def ids(found: list[Block]) -> list[str]:
    return [block.id for block in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(without_fences(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        relative = str(path.relative_to(ROOT))
        assert path.exists() or relative in WRITTEN_LATER, target
        assert not anchor or anchor in anchors(path), target


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")]
    assert not [page for page in pages if f"({page})" not in readme]


@pytest.mark.parametrize("block", blocks("toml"), ids=ids(blocks("toml")))
def test_every_configuration_and_policy_loads(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "tierq.toml"
    file.write_text(block.text)
    if "created_at" in block.text:
        assert read_policy_file(file).policy
        return
    settings = configuration.load(file, env={})
    settings.make_policy()


@pytest.mark.parametrize("block", blocks("python"), ids=ids(blocks("python")))
def test_all_python_compiles(block: Block) -> None:
    compile(block.text, block.id, "exec")


def tierq_commands() -> list[tuple[str, list[str]]]:
    """Every `tierq …` of the pages, in shell blocks and in the text."""
    found = []
    for block in blocks("sh"):
        found += [(block.id, one) for one in commands(block.text)]
    for page in PAGES:
        spans = re.findall(r"`(tierq(?: [^`]*)?)`", without_fences(page))
        found += [(str(page.relative_to(ROOT)), one) for span in spans for one in commands(span)]
    # `docker compose run --rm cli status` runs `tierq status` in a container.
    found = [(place, ["tierq", *one[one.index("cli") + 1 :]] if "cli" in one else one) for place, one in found]
    return [(place, one[1:]) for place, one in found if one[0] == "tierq" and one[1:2] != ["COMMAND"]]


COMMANDS = tierq_commands()


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{place} {' '.join(words)}" for place, words in COMMANDS])
def test_every_command_exists_with_its_options(
    place: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in words:
        if re.search(r"\.(csv|jsonl|json|parquet|txt)$", word):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{place}: there is no command {words[0]}"
        command, words = found, words[1:]
    # Text speaks of `tierq run` without all that it needs.
    if not words or "[OPTIONS]" in words:
        return
    command.make_context("tierq", words, resilient_parsing=isinstance(command, click.Group))


MAKE = [(block.id, one[1]) for block in blocks("sh") for one in commands(block.text) if one[0] == "make"]


@pytest.mark.parametrize(("place", "target"), MAKE)
def test_every_make_target_exists(place: str, target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), place
