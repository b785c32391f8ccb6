"""What `tierq` exports stands on the reference pages, with every argument of its methods."""

from __future__ import annotations

import inspect
import re

import pytest

import tierq
from unit.docs.pages import ROOT, names, without_fences

REFERENCE = ROOT / "docs" / "reference"
SPANS = [span for page in sorted(REFERENCE.glob("*.md")) for span in names(without_fences(page))]
CLIENT = names(without_fences(REFERENCE / "client.md"))


@pytest.mark.parametrize("name", tierq.__all__)
def test_every_public_name_stands_on_a_page(name: str) -> None:
    assert hasattr(tierq, name)
    assert any(re.fullmatch(rf"{name}\b.*", span) for span in SPANS)


METHODS = [
    (cls.__name__, name)
    for cls in (tierq.AsyncClient, tierq.AsyncBatch, tierq.AsyncHandle)
    for name in vars(cls)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_the_asyncio_client_has_no_words_of_its_own(cls: str, name: str) -> None:
    assert any(re.fullmatch(rf"{name}(\(.*\))?", span) for span in CLIENT)


SIGNATURES = [
    (cls, match[1], {one.strip().partition("=")[0] for one in match[2].split(",")} - {""})
    for span in CLIENT
    if (match := re.fullmatch(r"(\w+)\((.*)\)", span))
    for cls in (tierq.Client, tierq.Batch)
    if hasattr(cls, match[1])
]


@pytest.mark.parametrize("cls", [tierq.Client, tierq.Batch])
def test_the_arguments_of_methods_are_those_of_the_page(cls: type) -> None:
    said = {name: documented for owner, name, documented in SIGNATURES if owner is cls}
    taken = {name: set(inspect.signature(getattr(cls, name)).parameters) - {"self"} for name in said}
    assert taken == said
