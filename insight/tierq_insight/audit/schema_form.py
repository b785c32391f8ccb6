"""What a JSON Schema gives away of the task: labels to choose from, or fields to fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tierq_insight.audit.wording import BESIDE_A_LABEL

_OF_AN_ANSWER = ("answer", "citations", "sources", "answerable", "quotes", "references", "response")
_MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class SchemaForm:
    """The form of the answers that a schema allows."""

    fields: int
    """Properties that are values, at any depth."""
    depth: int
    """Objects and lists inside each other; 1 for a flat object."""
    labels: int
    """Labels of its only choice; 0 where it is no choice."""
    is_answer: bool
    """It asks for an answer with where it stands."""
    is_prose: bool
    """All of it is free text in one or two fields."""


def form_of(schema: Mapping[str, Any]) -> SchemaForm:
    """The form of a schema. What cannot be followed counts as one field."""
    definitions = {**_mapping(schema.get("definitions")), **_mapping(schema.get("$defs"))}
    leaves = list(_leaves(schema, definitions, 0))
    top = _mapping(schema.get("properties"))
    main = {name: node for name, node in top.items() if name.lower() not in BESIDE_A_LABEL}
    only = _resolved(next(iter(main.values())), definitions) if len(main) == 1 else {}
    named = {name.lower() for name in top}
    return SchemaForm(
        fields=len(leaves),
        depth=max((depth for _, depth in leaves), default=0),
        labels=_choices(only, definitions),
        is_answer="answer" in named and named <= {*_OF_AN_ANSWER, *BESIDE_A_LABEL} and len(named) >= 2,
        is_prose=0 < len(leaves) <= 2 and all(_is_free_text(node) for node, _ in leaves),
    )


def _leaves(node: object, definitions: Mapping[str, Any], depth: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every value of a schema, with how deep it stands."""
    found = _resolved(node, definitions)
    below = _mapping(found.get("properties"))
    if below and depth < _MAX_DEPTH:
        for child in below.values():
            yield from _leaves(child, definitions, depth + 1)
    elif "items" in found and depth < _MAX_DEPTH:
        item = _resolved(found["items"], definitions)
        yield from _leaves(item, definitions, depth + bool(item.get("properties")))
    elif depth:
        yield found, depth


def _choices(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> int:
    if node.get("type") == "boolean":
        return 2
    if "items" in node:
        node = _resolved(node["items"], definitions)
    listed = node.get("enum")
    return len(listed) if isinstance(listed, list) else 0


def _resolved(node: object, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _mapping(node)
    reference = found.get("$ref")
    if isinstance(reference, str):
        return _mapping(definitions.get(reference.rsplit("/", 1)[-1]))
    for alternative in found.get("anyOf") or ():
        if _mapping(alternative).get("type") != "null":
            return _resolved(alternative, definitions) if "$ref" in _mapping(alternative) else _mapping(alternative)
    return found


def _is_free_text(node: Mapping[str, Any]) -> bool:
    return node.get("type") == "string" and "enum" not in node and "format" not in node


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
