"""The answer to one request: sensible where simple rules can be, repeatable always, wrong as often as skill asks."""

from __future__ import annotations

from typing import Any

import orjson

from tierq_simulator import extraction, known_answers, logprobs, prose
from tierq_simulator.answer_key import AnswerKey
from tierq_simulator.chance import Dice, digest
from tierq_simulator.difficulty import outlook
from tierq_simulator.labels import labels_of
from tierq_simulator.passages import Finding, find_answer
from tierq_simulator.reading import stems
from tierq_simulator.schema_rules import Schema, kinds, options
from tierq_simulator.schemas import Filler, Reader
from tierq_simulator.wire.base import Ask

_SURE = frozenset({"confidence", "certainty", "probability", "score"})
_REASONS = frozenset({"reason", "reasoning", "rationale", "explanation", "justification", "evidence"})
_KEYWORDS = frozenset({"tags", "keywords", "topics", "entities", "themes"})
_GROUNDED = frozenset({"answer", "citations", "answerable"})
_PERCENT = 100


_NO_KEY = AnswerKey()


def write_answer(ask: Ask, text: str, seed: int, skill: float, key: AnswerKey = _NO_KEY) -> str:
    """The answer's text: the right one by ``key``, else what simple rules find; wrong as often as skill says.

    Whether it is wrong depends on the input alone: what is hard for one model is hard for each, and a model of more
    skill gets right all that one of less skill does. Which wrong answer it gives depends on the model too.
    """
    wrong = skill < 1 and outlook(ask, text, seed, skill).is_wrong
    dice = _dice(ask, text, seed, wrong=wrong)
    known = key.find(text)
    if ask.schema is None:
        return _prose(text, known, dice, wrong=wrong)
    victim = _victim(ask.schema, dice) if wrong else None
    right = None if known is None else known_answers.in_form(known, ask.schema)
    if right is not None and victim is None:
        return orjson.dumps(right).decode()
    reader = InputReader(text, ask.system, dice, victim)
    filled = Filler(ask.schema, dice, reader).fill(ask.schema)
    if right is not None and victim is not None:
        filled = known_answers.mistaken(right, filled, victim, ask.schema, dice)
    return orjson.dumps(filled).decode()


def write_tokens(ask: Ask, text: str, seed: int, skill: float, written: str) -> list[logprobs.Token]:
    """The tokens of an answer that was written to this ask, with log-probabilities that tell right from wrong a bit."""
    found = outlook(ask, text, seed, skill)
    doubtful = _victim(ask.schema, _dice(ask, text, seed, wrong=found.is_wrong)) if ask.schema else None
    return logprobs.tokens(written, ask.schema, doubtful, found.sure, seed)


def _dice(ask: Ask, text: str, seed: int, *, wrong: bool) -> Dice:
    return Dice(digest(seed, "answer", text, ask.model if wrong else ""))


def _prose(text: str, known: object, dice: Dice, *, wrong: bool) -> str:
    if isinstance(known, str) and not wrong:
        return known
    return prose.reply(text[::-1] if wrong else text, dice)


def _victim(schema: Schema, dice: Dice) -> str:
    """The property that a wrong answer gets wrong: a label where there is one."""
    properties: dict[str, Any] = schema.get("properties") or {"": schema}
    if properties.keys() >= {"answer", "citations"}:
        return "answer"
    labelled = [name for name, part in properties.items() if isinstance(part, dict) and _is_label(part)]
    telling: list[str] = [name for name in properties if name not in _SURE | _REASONS]
    return dice.choice(labelled or telling or list(properties))


def _is_label(schema: Schema) -> bool:
    items = schema.get("items")
    return len(options(schema) or ()) > 1 or (isinstance(items, dict) and "enum" in items)


class InputReader:
    """Reads values for a schema's properties out of the input; ``victim`` names the one to get wrong."""

    def __init__(self, text: str, system: str, dice: Dice, victim: str | None, *, row: bool = False) -> None:
        self._text = text
        self._system = system
        self._dice = dice
        self._victim = victim
        self._row = row
        self._stems: set[str] | None = None
        self._lead = 0.5
        self._finding: Finding | None = None

    def guess(self, name: str, schema: Schema) -> Any:
        """A value for the property; None where the input holds none."""
        if name in _GROUNDED and "<passage" in self._text:
            return self._grounded(name, schema)
        listed = options(schema)
        if listed is not None:
            return self._label(name, listed)
        kind = kinds(schema)[0]
        if kind == "array":
            return self._several(name, schema)
        if name in _SURE and kind == "number":
            return self._sureness(schema)
        if name in _REASONS and kind == "string":
            return self._reason()
        return None if name == self._victim else self._scalar(name, kind, schema)

    def rows(self, name: str) -> list[Reader]:
        """A reader for each line of the input that looks like an item of a list."""
        if self._row or name == self._victim:
            return []
        found = extraction.find_rows(self._text)
        return [InputReader(row, self._system, self._dice, self._victim, row=True) for row in found]

    def _words(self) -> set[str]:
        if self._stems is None:
            self._stems = stems(self._text)
        return self._stems

    def _scalar(self, name: str, kind: str, schema: Schema) -> Any:
        if kind == "string":
            if self._row and extraction.is_item_text(name):
                return extraction.row_text(self._text) or None
            return extraction.find_text(name, self._text, schema.get("format", ""))
        if kind in ("integer", "number"):
            found = extraction.find_number(name, self._text)
            return int(found) if found is not None and (kind == "integer" or found.is_integer()) else found
        return extraction.find_flag(name, self._text) if kind == "boolean" else None

    def _label(self, name: str, listed: list[Any]) -> Any:
        names = tuple(value for value in listed if isinstance(value, str))
        if not names:
            return None
        if name != self._victim and "currency" in name.lower():
            found = extraction.find_text(name, self._text)
            if found in names:
                return found
        ranked, self._lead = labels_of(names, self._system).ranked(self._words(), self._dice)
        if name == self._victim and len(ranked) > 1:
            return self._dice.choice(ranked[1:])
        return ranked[0]

    def _several(self, name: str, schema: Schema) -> list[Any] | None:
        items = schema.get("items")
        listed = options(items) if isinstance(items, dict) else None
        if listed is None:
            wanted = name.lower() in _KEYWORDS and name != self._victim
            return prose.topics(self._text, min(3, schema.get("maxItems", 3))) if wanted else None
        names = tuple(value for value in listed if isinstance(value, str))
        if not names:
            return None
        labels = labels_of(names, self._system)
        ranked, self._lead = labels.ranked(self._words(), self._dice)
        if name == self._victim and len(ranked) > 1:
            return [self._dice.choice(ranked[1:])]
        chosen = labels.several(self._words(), self._dice)
        chosen += [label for label in ranked if label not in chosen][: max(0, schema.get("minItems", 0) - len(chosen))]
        return chosen[: schema.get("maxItems", len(chosen))]

    def _grounded(self, name: str, schema: Schema) -> Any:
        if self._finding is None:
            self._finding = find_answer(self._text, self._dice, wrong=self._victim is not None)
            self._lead = self._finding.share
        if name == "answer":
            nothing = not self._finding.answerable and "null" in kinds(schema)
            return None if nothing else self._finding.answer
        return self._finding.citations if name == "citations" else self._finding.answerable

    def _sureness(self, schema: Schema) -> float:
        sure = 0.6 + 0.38 * self._lead
        if self._victim is not None:
            sure = 0.3 + 0.5 * self._dice.fraction()
        return round(sure * (_PERCENT if schema.get("maximum", 1) >= _PERCENT else 1), 2)

    def _reason(self) -> str:
        spoken = prose.topics(self._text, 3)
        return f"The input speaks of {prose.listing(spoken)}." if spoken else "The input says little."
