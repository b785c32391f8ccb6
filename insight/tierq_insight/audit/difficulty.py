"""Signs that a request may be hard for a small model. They route nothing: they say what to evaluate first."""

from __future__ import annotations

import re
from collections.abc import Callable

from tierq_insight.audit.call import Call
from tierq_insight.audit.tagging import Tag
from tierq_shared.money import Usage

LONG_INPUT = 4_000
LONG_OUTPUT = 500
MANY_LABELS = 20
MANY_FIELDS = 15
DEEP = 3
MANY_TURNS = 4
HARD = 2
"""A call with so many signs counts as hard."""

SIGNS = {
    "long_input": f"over {LONG_INPUT:,} tokens of input",
    "long_output": f"over {LONG_OUTPUT:,} tokens of output",
    "many_labels": f"over {MANY_LABELS} labels",
    "many_fields": f"over {MANY_FIELDS} fields",
    "deep_schema": f"fields over {DEEP} levels deep",
    "reasoning": "words that ask for reasoning, or reasoning tokens",
    "code": "code",
    "maths": "mathematics",
    "other_language": "a language other than English",
    "several_questions": "several questions at once",
    "multiple_choice": "a choice that asks for knowledge",
    "many_turns": f"over {MANY_TURNS} turns of the user",
}
"""Every sign, in words."""

_READ = 2_000
"""Characters of a text in which signs are looked for."""

_REASONING = re.compile(
    r"\b(?:step[- ]by[- ]step|careful thought|think (?:carefully|through|hard)|reason (?:about|through|carefully)"
    r"|prove\b|deduce|clue\(?s|puzzle|trade-?offs?|pros and cons|root cause|explain why|justify|compare and contrast"
    r"|what (?:would|could) happen if|strategy|which of the following)"
)
_REASONING_WORDS = frozenset(
    ("step", "thought", "think", "reason", "prove", "deduce", "clue", "clues", "puzzle", "trade", "tradeoff",
     "tradeoffs", "pros", "root", "explain", "justify", "contrast", "happen", "strategy", "which")
)  # fmt: skip
_CODE = re.compile(
    r"\bdef \w+\s*\(|\bfunction \w*\(|\b(?:class|public|private|const|let|var) \w+\s*[=({:]|\bimport \w+\n"
    r"|\bselect\b.{1,200}\bfrom\b.{1,80}(?:\bwhere\b|\bjoin\b|\bgroup by\b|;)|\bstack ?trace\b|\bregex\b|\btraceback\b"
    r"|\b(?:python|javascript|typescript|sql|bash|java|rust|c\+\+) (?:code|function|script|query|program)\b"
    r"|\b(?:write|implement|refactor|debug) (?:an?|the|this) (?:\w+ )?(?:function|script|program|class|method|query)\b",
    re.S,
)
_CODE_WORDS = frozenset(
    ("def", "function", "class", "public", "private", "const", "let", "var", "import", "select", "trace", "stacktrace",
     "traceback", "regex", "code", "script", "program", "method", "query")
)  # fmt: skip
_FORMULA = re.compile(
    r"\\(?:frac|sqrt|boxed|sum|int|bar|cdot|rightarrow|left|times)\b|\$[^$\n]{0,80}(?:[=+^\\<>]|\d\$)"
)
_SUM = re.compile(r"\d\s?[+*/^×÷=]\s?\d")
_MATHS_WORDS = frozenset(
    ("equation", "equations", "integral", "derivative", "theorem", "polynomial", "perimeter", "triangle", "probability",
     "modulo", "remainder", "divisible", "integer", "integers", "calculate", "compute", "solve", "velocity", "electron",
     "hamiltonian")
)  # fmt: skip
_COUNTED = re.compile(r"\bhow (?:many|much|far|long|old)\b")
_NUMBER = re.compile(r"\d+|\b(?:two|three|four|five|six|seven|eight|nine|ten|half|twice|dozen|third)\b")
_WORD = re.compile(r"[^\W\d_]+")

_ENGLISH = frozenset(
    _WORD.findall("the of and to in is that it for you was with on this are i my not have be can what a")
)
_OTHERS = frozenset(
    _WORD.findall(
        "der die das und ist nicht ich mit ein eine zu den auf für sie wir von bitte "
        "le la les des et est une pas je vous pour dans que qui du nous avec sur "
        "el los las es un por con para no se mi que del una como "
        "il di che non per sono una gli della o em não uma os as de het een van niet voor met ik"
    )
)
"""The most frequent small words of English, and of German, French, Spanish, Italian, Portuguese and Dutch."""

_LETTERS_OF_OTHERS = 0.3
"""The share of letters beyond ASCII from which a text counts as another language's."""
_WORDS_OF_A_LANGUAGE = 60


class _Text:
    """A text in lower case, with its words: most signs need one of a few, and looking for words is fast."""

    def __init__(self, text: str) -> None:
        self.lowered = (text if len(text) <= _READ else text[: _READ // 2] + text[-_READ // 2 :]).lower()
        self.words = _WORD.findall(self.lowered)
        self.vocabulary = set(self.words)


def signs_of(call: Call, tag: Tag, usage: Usage) -> tuple[str, ...]:
    """The signs of difficulty that a call shows, by their names in `SIGNS`."""
    text = _Text(call.input)
    found = [name for name, holds in _MEASURED.items() if holds(call, tag, usage)]
    found += [name for name, holds in _READ_OFF.items() if holds(text)]
    return tuple(dict.fromkeys(found))


def _is_other_language(text: _Text) -> bool:
    words = text.words[:_WORDS_OF_A_LANGUAGE]
    if len(words) < 4:
        return False
    letters = "".join(words)
    if not letters.isascii() and sum(map(str.isascii, letters)) < len(letters) * (1 - _LETTERS_OF_OTHERS):
        return True
    ours, theirs = sum(map(_ENGLISH.__contains__, words)), sum(map(_OTHERS.__contains__, words))
    return theirs > 2 * ours and theirs * 10 >= len(words)


def _is_code(text: _Text) -> bool:
    if "```" in text.lowered or "#include" in text.lowered:
        return True
    return not _CODE_WORDS.isdisjoint(text.vocabulary) and _CODE.search(text.lowered) is not None


def _is_maths(text: _Text) -> bool:
    lowered = text.lowered
    if not _MATHS_WORDS.isdisjoint(text.vocabulary) or _SUM.search(lowered) is not None:
        return True
    if ("\\" in lowered or "$" in lowered) and _FORMULA.search(lowered) is not None:
        return True
    return "how" in text.vocabulary and _COUNTED.search(lowered) is not None and len(_NUMBER.findall(lowered)) >= 2


def _asks_reasoning(text: _Text) -> bool:
    return not _REASONING_WORDS.isdisjoint(text.vocabulary) and _REASONING.search(text.lowered) is not None


_MEASURED: dict[str, Callable[[Call, Tag, Usage], bool]] = {
    "long_input": lambda _call, _tag, usage: usage.input_tokens > LONG_INPUT,
    "long_output": lambda _call, _tag, usage: usage.output_tokens > LONG_OUTPUT,
    "many_labels": lambda _call, tag, _usage: tag.labels > MANY_LABELS,
    "many_fields": lambda _call, tag, _usage: tag.form is not None and tag.form.fields > MANY_FIELDS,
    "deep_schema": lambda _call, tag, _usage: tag.form is not None and tag.form.depth > DEEP,
    "reasoning": lambda _call, _tag, usage: usage.reasoning_tokens > 0,
    "multiple_choice": lambda _call, tag, _usage: tag.is_multiple_choice,
    "many_turns": lambda call, _tag, _usage: call.turns > MANY_TURNS,
}

_READ_OFF: dict[str, Callable[[_Text], bool]] = {
    "reasoning": _asks_reasoning,
    "code": _is_code,
    "maths": _is_maths,
    "other_language": _is_other_language,
    "several_questions": lambda text: text.lowered.count("?") > 1,
}
