"""How hard an input is, whether a model of some skill gets it right, and how sure it is of that.

Simulated, all of it: the figures below are chosen so that evaluation, policy and cascade have something to find. They
say nothing about any real model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tierq_simulator.chance import fraction
from tierq_simulator.schema_rules import Schema, options
from tierq_simulator.wire.base import Ask, estimate_tokens

_EASY_TOKENS, _EASY_CHOICES = 64, 4
"""An input of this length with this many labels, or fields, is where ``skill`` is the share of right answers."""

_HARDER_EACH_DOUBLING = 0.25

_LEAST_SURE, _SURE_SPAN, _SURE_SLOPE, _SURE_NOISE = 0.3, 0.69, 8.0, 0.3
"""Sureness runs from 0.3 to 0.99 as a logistic curve of the margin. Where a model is right half of the time it says
0.64, and where it is never right still 0.3: informative, and too sure of itself, as models are."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What comes of one model's meeting one input."""

    is_wrong: bool
    sure: float
    """What the model itself makes of its answer, from 0 to 1."""


def outlook(ask: Ask, text: str, seed: int, skill: float) -> Outlook:
    """Whether a model's answer is wrong, and how sure it is.

    One latent draw per input is shared by all models, so a model of more skill gets right all that one of less does.
    """
    chance = chance_of_right(skill, estimate_tokens(text), choices(ask.schema))
    margin = chance - fraction(seed, "skill", text)
    noise = fraction(seed, "sure", text, ask.model) - 0.5
    sure = _LEAST_SURE + _SURE_SPAN / (1 + math.exp(-_SURE_SLOPE * (margin + _SURE_NOISE * noise)))
    return Outlook(margin <= 0, sure)


def chance_of_right(skill: float, tokens: int, count: int) -> float:
    """The share of inputs of this length and number of choices that a model of this skill gets right."""
    doublings = math.log2(max(1.0, tokens / _EASY_TOKENS)) + math.log2(max(1.0, count / _EASY_CHOICES))
    return float(skill ** (1 + _HARDER_EACH_DOUBLING * doublings))


def choices(schema: Schema | None) -> int:
    """How much there is to get wrong: the labels of the largest choice, else the fields."""
    properties: dict[str, Any] = (schema or {}).get("properties") or {}
    listed = [options(part) or options(part.get("items") or {}) for part in properties.values() if _is_plain(part)]
    return max((len(found) for found in listed if found), default=0) or len(properties) or 1


def _is_plain(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("items", {}), dict)
