"""Instances of a JSON Schema: what can be read from the input where it fits, plausible values elsewhere."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Protocol

from tierq_simulator import patterns
from tierq_simulator.chance import Dice
from tierq_simulator.schema_rules import Schema, fits, flatten, kinds, merge, options

_OPTIONAL_DEPTH = 4
_DEEPEST = 40
_MISSING = object()
_WORD_TEXT = "amber birch cedar delta ember falcon garnet harbor indigo juniper kestrel linden"
_WORDS = _WORD_TEXT.split()


class Reader(Protocol):
    """What knows the input: asked for each property before anything is made up."""

    def guess(self, name: str, schema: Schema) -> Any:
        """A value for the property; None where the input holds none."""

    def rows(self, name: str) -> list[Reader]:
        """A reader for each item of the list the property stands for."""


class Filler:
    """Fills schemas. What it makes up is drawn from the dice, so the same input gives the same instance."""

    def __init__(self, root: Schema, dice: Dice, reader: Reader) -> None:
        self._root = root
        self._dice = dice
        self._reader = reader

    def fill(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """An instance of the schema."""
        schema = flatten(schema, self._root)
        if depth > _DEEPEST:
            return None
        if "const" in schema:
            return schema["const"]
        listed = options(schema)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches and listed is None:
            return self._branch(schema, branches, name, depth)
        guess = self._guessed(name, schema)
        if guess is not _MISSING:
            return guess
        if listed:
            return self._dice.choice([value for value in listed if value is not None] or listed)
        return self._of_kind(schema, name, depth)

    def _guessed(self, name: str, schema: Schema) -> Any:
        flat = _with_flat_items(schema, self._root)
        guess = self._reader.guess(name, flat)
        if guess is not None and fits(guess, flat):
            return guess
        return None if guess is None and _nullable(schema) and kinds(schema)[0] != "object" else _MISSING

    def _branch(self, schema: Schema, branches: list[Any], name: str, depth: int) -> Any:
        base = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        made = [merge(base, flatten(branch, self._root)) for branch in branches]
        solid = [branch for branch in made if not _only_null(branch)]
        if len(solid) < len(made) and (depth > _OPTIONAL_DEPTH or not solid):
            return None
        chosen = solid[0] if len(solid) == 1 else self._dice.choice(solid)
        if len(solid) < len(made) and kinds(chosen)[0] not in ("object", "array"):
            found = self._guessed(name, chosen)
            return None if found is _MISSING else found
        return self.fill(chosen, name, depth)

    def _of_kind(self, schema: Schema, name: str, depth: int) -> Any:
        kind = kinds(schema)[0]
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "boolean":
            return self._dice.fraction() < 0.5
        if kind in ("integer", "number"):
            return _number(schema, self._dice, whole=kind == "integer")
        return None if kind == "null" else _string(schema, name, self._dice)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        names = [name for name in properties if depth < _OPTIONAL_DEPTH or name in required]
        names += [name for name in required if name not in properties]
        extra = schema.get("additionalProperties")
        filled = {name: self.fill(properties.get(name, extra), name, depth + 1) for name in names}
        for position in range(max(0, schema.get("minProperties", 0) - len(filled))):
            filled[f"{_WORDS[position % len(_WORDS)]}_{position}"] = self.fill(extra, "", depth + 1)
        return filled

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        made = [self.fill(item, name, depth + 1) for item in schema.get("prefixItems", [])]
        items = flatten(schema.get("items", {}), self._root)
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1 << 30)
        if kinds(items)[0] == "object" and depth <= _OPTIONAL_DEPTH:
            rows = self._reader.rows(name)[: max(0, most - len(made))]
            made += [Filler(self._root, self._dice, row).fill(items, name, depth + 1) for row in rows]
        if "contains" in schema and not made:
            made.append(self.fill(merge(items, flatten(schema["contains"], self._root)), name, depth + 1))
        return self._topped_up(made, items, least, unique=bool(schema.get("uniqueItems")), depth=depth)

    def _topped_up(self, made: list[Any], items: Schema, least: int, *, unique: bool, depth: int) -> list[Any]:
        listed = options(items)
        if unique and listed:
            return made + [value for value in listed if value not in made][: max(0, least - len(made))]
        tries = 0
        while len(made) < least:
            value = self.fill(items, "", depth + 1)
            tries += 1
            if not unique or value not in made or tries > 50 * least:
                made.append(value)
        return made


def _with_flat_items(schema: Schema, root: Schema) -> Schema:
    items = schema.get("items")
    if isinstance(items, dict) and ("$ref" in items or "allOf" in items):
        return {**schema, "items": flatten(items, root)}
    return schema


def _nullable(schema: Schema) -> bool:
    if "enum" in schema:
        return None in schema["enum"] and "null" in kinds(schema)
    return "null" in kinds(schema)


def _only_null(schema: Schema) -> bool:
    return kinds(schema) == ["null"] or options(schema) == [None]


def _number(schema: Schema, dice: Dice, *, whole: bool) -> int | float:
    step = Decimal(str(schema.get("multipleOf") or ("1" if whole else "0.01")))
    if whole and step != int(step):
        step = Decimal(1) * step.as_integer_ratio()[0]
    low, high = _bounds(schema, step)
    first = int((low / step).to_integral_value(ROUND_CEILING))
    last = int((high / step).to_integral_value(ROUND_FLOOR))
    if last < first:
        # No multiple of a made-up step lies between narrow bounds: the middle does.
        return float((low + high) / 2)
    value = step * (first + dice.below(last - first + 1))
    return int(value) if whole else float(value)


def _bounds(schema: Schema, step: Decimal) -> tuple[Decimal, Decimal]:
    lows = [Decimal(str(schema["minimum"]))] if "minimum" in schema else []
    highs = [Decimal(str(schema["maximum"]))] if "maximum" in schema else []
    if "exclusiveMinimum" in schema:
        lows.append(Decimal(str(schema["exclusiveMinimum"])) + _little(schema, step))
    if "exclusiveMaximum" in schema:
        highs.append(Decimal(str(schema["exclusiveMaximum"])) - _little(schema, step))
    span = step * 100
    low = max(lows) if lows else min(Decimal(0), min(highs) - span) if highs else Decimal(0)
    return low, min(highs) if highs else low + span


def _little(schema: Schema, step: Decimal) -> Decimal:
    """Less than a step, and little beside the range: enough to leave an exclusive bound."""
    ends = [schema[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if key in schema]
    span = abs(Decimal(str(max(ends))) - Decimal(str(min(ends)))) or step
    return min(span, step) / 1000


def _string(schema: Schema, name: str, dice: Dice) -> str:
    pattern = schema.get("pattern")
    made = patterns.sample(pattern, dice) if pattern else None
    if made is None:
        made = _formatted(schema.get("format", ""), dice) or f"{name.replace('_', ' ') or 'text'} {dice.choice(_WORDS)}"
    elif fits(made, schema):
        return made
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    while len(made) < least:
        made += f" {dice.choice(_WORDS)}"
    return made if most is None else made[:most]


def _formatted(form: str, dice: Dice) -> str | None:
    day = f"2026-{1 + dice.below(12):02d}-{1 + dice.below(28):02d}"
    time = f"{dice.below(24):02d}:{dice.below(60):02d}:00Z"
    word, number = dice.choice(_WORDS), dice.number()
    digits = f"{number:016x}{dice.number():016x}"
    made = {
        "date": day,
        "time": time,
        "date-time": f"{day}T{time}",
        "duration": f"P{1 + number % 30}D",
        "email": f"{word}@example.com",
        "idn-email": f"{word}@example.com",
        "hostname": f"{word}.example.com",
        "idn-hostname": f"{word}.example.com",
        "ipv4": f"192.0.2.{number % 255}",
        "ipv6": f"2001:db8::{number % 65535:x}",
        "uri": f"https://example.com/{word}",
        "uri-reference": f"/{word}",
        "iri": f"https://example.com/{word}",
        "json-pointer": f"/{word}",
        "regex": f"^{word}$",
        "uuid": f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}",
    }
    return made.get(form)
