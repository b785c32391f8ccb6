"""The type of task that a request is, why, and how sure that is. Rules in order; the first one that holds decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tierq_insight.audit.call import Call
from tierq_insight.audit.kinds import Kinds
from tierq_insight.audit.schema_form import SchemaForm, form_of
from tierq_insight.audit.wording import (
    CUES,
    asking,
    fields_of,
    has_passages,
    is_multiple_choice,
    is_picked,
    is_short,
    label_of,
    labels_in,
)
from tierq_shared.specs import TASK_TYPES, TaskType

Confidence = Literal["declared", "inferred", "guessed"]
CONFIDENCES: tuple[Confidence, ...] = ("declared", "inferred", "guessed")
"""Declared: the request says it in a field of its own. Inferred: words or answers show it. Guessed: nothing does."""


@dataclass(frozen=True, slots=True)
class Tag:
    """What a request is, as far as it shows."""

    type: TaskType
    confidence: Confidence
    reason: str
    """One of a few fixed sentences, never words of the request."""
    labels: int = 0
    """Labels to choose from, where they could be counted."""
    form: SchemaForm | None = None
    is_multiple_choice: bool = False


def tag(call: Call, kinds: Kinds) -> Tag:
    """The tag of one call."""
    return _declared(call) or _inferred(call, kinds) or Tag("generate", "guessed", _unsaid(call))


def _declared(call: Call) -> Tag | None:
    form = form_of(call.schema) if call.schema else None
    if call.type is not None:
        labels = call.labels or (form.labels if form else 0) or _listed(call.instructions)
        return Tag(call.type, "declared", "the row, or --type, says so", labels, form)
    if form is not None:
        return _by_schema(call, form)
    if call.labels >= 2:
        return Tag("classify", "declared", "the row lists its labels", call.labels)
    if call.passages:
        return Tag("answer", "declared", "the row has passages in a field of their own")
    return None


def _by_schema(call: Call, form: SchemaForm) -> Tag:
    if form.labels >= 2:
        return Tag("classify", "declared", "its JSON schema allows one choice of listed labels", form.labels, form)
    if form.is_answer:
        return Tag("answer", "declared", "its JSON schema asks for an answer with its sources", form=form)
    if form.is_prose and _first_cue(call) == "generate":
        return Tag("generate", "inferred", "its JSON schema holds only free text, and words ask for writing", form=form)
    return Tag("extract", "declared", "its JSON schema, or the tool it had to use, names fields", form=form)


def _inferred(call: Call, kinds: Kinds) -> Tag | None:
    if call.tools:
        return Tag("generate", "inferred", "tools are offered to choose from: an agent's turn")
    if call.is_prompt and is_multiple_choice(call.input):
        reason = "a question with answers of its own to choose from: knowledge is asked"
        return Tag("generate", "inferred", reason, is_multiple_choice=True)
    return _by_words(call) or _by_answers(call, kinds)


def _by_words(call: Call) -> Tag | None:
    cue = _first_cue(call)
    if cue == "classify" and (labels := _labels(call)) is not None:
        words = "its words ask for a label, and labels are listed" if labels else "its words ask for a label"
        reason = words if call.output is None else f"{words}; the answer is short"
        return Tag("classify", "inferred", reason, labels)
    if cue == "answer" or (cue is None and _has_material(call)):
        return _answer(call)
    if cue == "extract":
        return Tag("extract", "inferred", "its words ask for fields out of a text")
    if call.asks_json:
        return Tag("extract", "inferred", "it asks for JSON, without a schema")
    if cue == "generate":
        return Tag("generate", "inferred", "its words ask for writing")
    return None


def _answer(call: Call) -> Tag:
    if _has_material(call):
        return Tag("answer", "inferred", "passages are marked in it, and a question is asked")
    return Tag("answer", "inferred", "its words ask for an answer from given material")


def _by_answers(call: Call, kinds: Kinds) -> Tag | None:
    labels = kinds.labels(call)
    if labels:
        return Tag("classify", "inferred", "answers to its kind are a few short ones, again and again", labels)
    if call.is_prompt and call.output is not None and _is_picked(call, call.output):
        return Tag("classify", "inferred", "its answer is one of several that the request lists")
    if call.output is not None and fields_of(call.output) >= 2:
        return Tag("extract", "inferred", "its answer is a JSON object of several fields")
    return None


def _labels(call: Call) -> int | None:
    """The labels that are listed, 0 where none could be found; None where the answer is too long to be one."""
    if call.output is not None and not is_short(call.output):
        return None
    return _listed(call.instructions) or (labels_in(_ends(call.input)) if call.is_prompt else 0)


def _is_picked(call: Call, output: str) -> bool:
    label = label_of(output)
    return label is not None and is_picked(label, asking(call.instructions or call.input))


def _has_material(call: Call) -> bool:
    """Whether passages are marked in the request, and something is asked of them."""
    is_asked = "?" in call.input[-1_000:] or "?" in call.input[:400] or "question" in call.input[-1_000:].lower()
    return call.is_prompt and is_asked and (has_passages(call.input) or _holds_passages(call.instructions))


def _first_cue(call: Call) -> TaskType | None:
    """What the first words that ask for anything ask for: in the instructions, else in the request's own text."""
    found = _cue_of(call.instructions) if call.instructions else None
    return found or (_earliest(asking(call.input)) if call.is_prompt else None)


def _earliest(text: str) -> TaskType | None:
    places = [(place, type_) for type_ in TASK_TYPES if (place := CUES[type_].find(text)) is not None]
    return min(places)[1] if places else None


@lru_cache(maxsize=1_000)
def _cue_of(instructions: str) -> TaskType | None:
    return _earliest(instructions[:4_000].lower())


@lru_cache(maxsize=1_000)
def _listed(text: str) -> int:
    return labels_in(text)


@lru_cache(maxsize=1_000)
def _holds_passages(instructions: str) -> bool:
    return has_passages(instructions)


def _ends(text: str) -> str:
    return text if len(text) <= 4_000 else f"{text[:2_000]}\n{text[-2_000:]}"


def _unsaid(call: Call) -> str:
    if call.is_prompt or call.instructions:
        return "nothing in it shows another type"
    return "a plain text: nothing says what is asked of it"
