"""Words and marks by which a request gives away what it asks. English; other languages are recognised, not understood.

Each cue is a pattern with the stems that it cannot match without: looking for a stem is many times faster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from tierq_shared.specs import TaskType

ASK_START, ASK_END = 800, 400
"""Characters at the start and the end of a text in which its asking is looked for."""

_MAX_LABEL = 60
_MAX_CODE = 3

BESIDE_A_LABEL = ("confidence", "reason", "reasoning", "explanation", "rationale", "score", "why")
"""Fields that often stand beside a label without making it an extraction."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A pattern, and the lower-case stems of which it needs one."""

    stems: tuple[str, ...]
    pattern: re.Pattern[str]

    def find(self, lowered: str) -> int | None:
        """Where it first matches in a lower-case text; None where it does not."""
        if not any(stem in lowered for stem in self.stems):
            return None
        match = self.pattern.search(lowered)
        return match.start() if match else None


def _cue(stems: str, *patterns: str) -> Cue:
    return Cue(tuple(stems.split()), re.compile(r"\b(?:" + "|".join(patterns) + ")", re.M | re.S))


CUES: dict[TaskType, Cue] = {
    "classify": _cue(
        "rate score grade possible allowed valid language priority tone classif categor sentiment intent label one yes"
        " true whether triage moderat route department topic spam toxic offens posit negat urgent relevant fraud",
        r"classif(?:y|ies|ication)\b",
        r"categori[sz]e\b",
        r"(?:which|what) (?:of these |of the following )?(?:category|categories|labels?|class|classes|intents?|topics?"
        r"|department)\b",
        r"(?:assign|choose|pick|select|give|return|tag|label)\b[^.\n]{0,40}\b(?:category|categories|label|labels|class|intent)\b",
        r"(?:detect|determine|identify|predict|judge|decide)\b[^.\n]{0,30}\b(?:sentiment|intent|category|topic|tone|priority|language)\b",
        r"sentiment (?:of|is|analysis)\b",
        r"(?:label|rate|score|grade) (?:the|this|each)\b",
        r"(?:possible|allowed|valid) (?:classes|labels|categories|values)\b",
        r"true/false\b|yes/no\b",
        r"(?:answer|reply|respond|return|output)s?\b[^.\n]{0,20}\b(?:with |only |just |exactly )+"
        r"(?:one of|one word|a single (?:word|label)|the (?:label|category)|['\"]?yes['\"]? or|['\"]?true['\"]? or)",
        r"(?:answer|reply|respond)\b[^.\n]{0,20}\b(?:yes|true)(?: or |/)(?:no|false)\b",
        r"(?:answer|reply|respond) with (?:only |just |exactly |either )[\w'\"-]+(?:,| or )",
        r"is (?:this|the|it)\b[^.?\n]{0,40}\b(?:spam|toxic|offensive|positive|negative|urgent|relevant|fraudulent)\b",
        r"(?:decide|say|tell|judge|determine|check) (?:whether|if) (?:this|the|it|an?)\b",
        r"route (?:this|the|each) \w+ to\b",
        r"(?:triage|moderate) (?:this|the|each|user|incoming)\b",
    ),
    "extract": _cue(
        "extract pull parse fill json fields entit identify list find",
        r"extract(?:s|ion of)?\b",
        r"pull out\b",
        r"parse (?:this|the|out|each)\b",
        r"fill in the (?:fields|form|following)\b",
        r"(?:return|output|answer|respond|reply|produce)\b[^.\n]{0,30}\bjson\b",
        r"(?:as|to|into) (?:a )?(?:valid )?json\b",
        r"(?:identify|list|find) (?:all|every)\b[^.\n]{0,40}\b(?:names?|mentioned|mentions|dates|amounts|terms)\b",
        r"with the (?:keys|fields)\b",
        r"named entit",
    ),
    "answer": _cue(
        "based using from answer according",
        r"according to the (?:article|text|passage|document|context|source|policy|manual)\b",
        r"(?:based|relying|rely)\b[^.\n]{0,12}\bon the (?:following |provided |given |above |retrieved )*"
        r"(?:context|passage|document|source|excerpt|text|article|information|material|knowledge|search)",
        r"(?:using|from|in) (?:only )?the (?:following |provided |given |above |retrieved )*"
        r"(?:context|passages?|documents?|sources?|excerpts?|articles?)\b",
        r"answer the (?:\w+['’]?s? )?(?:question|query)\b[^.\n]{0,40}"
        r"\b(?:context|passage|document|source|excerpt|article)",
    ),
    "generate": _cue(
        "write draft compose rewrite rephras paraphras summar translat generate create brainstorm explain reply suggest"
        " implement",
        r"(?:write|draft|compose|rewrite|rephrase|paraphrase|summari[sz]e|translate|brainstorm|explain|implement)\b",
        r"(?:generate|create|suggest|produce) (?:an?|the|\d+|three|five|some|short|new)\b",
        r"reply to (?:the|this|a)\b",
    ),
}
"""What words ask for, by the type of task that they make of a request."""

_BLOCK = re.compile(
    r"<(?:passage|context|document|source|excerpt|article|doc)s?\b[^>]*>"
    r"|^[#*\s]*(?:context|passages?|documents?|sources?|excerpts?|articles?|search results|knowledge base)"
    r"(?: ?\d+)?[^\n:?]{0,30}:"
    r"|^\s*\[(?:doc(?:ument)? ?)?\d+\][ :(][^\n]{20}",
    re.I | re.M,
)
_BLOCK_STEMS = ("<", "context", "passage", "document", "source", "excerpt", "article", "results", "base", "[")

_LIST_CUE = re.compile(
    r"\b(?:labels?|categor(?:y|ies)|class(?:es)?|intents?|topics?|departments?|queues?|options?|one of"
    r"|choose (?:from|between)|following)\b[^\n:]{0,60}:[ \t]*",
    re.I,
)
_ONE_OF = re.compile(r"\b(?:one of|either|choose (?:from|between)|as|with|answer|only|:)\s+(?=['\"“A-Za-z])", re.I)
_BULLET = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+(\S[^\n]*)")
_SEPARATORS = re.compile(r"\s*(?:,|;|\||/|\bor\b|\band\b)\s*")
_MULTIPLE_CHOICE = re.compile(r"^\s*\(?A[.):]\s+\S[^\n]*\n+\s*\(?B[.):]\s+\S[^\n]*\n+\s*\(?C[.):]\s+\S", re.M)
_FIRST_CHOICES = ("A.", "A)", "A:")


def asking(text: str) -> str:
    """The parts of a text in which it says what is asked, in lower case."""
    if len(text) <= ASK_START + ASK_END:
        return text.lower()
    return f"{text[:ASK_START]}\n{text[-ASK_END:]}".lower()


def has_passages(text: str) -> bool:
    """Whether blocks of a text are marked as material to work from."""
    lowered = text.lower()
    return any(stem in lowered for stem in _BLOCK_STEMS) and _BLOCK.search(text) is not None


def is_multiple_choice(text: str) -> bool:
    """Whether a text brings its own answers A, B, C … to choose from."""
    return any(mark in text for mark in _FIRST_CHOICES) and _MULTIPLE_CHOICE.search(text) is not None


def labels_in(text: str) -> int:
    """How many labels a text lists after words that announce a list; 0 where it announces none."""
    for match in _LIST_CUE.finditer(text):
        count = _bullets(text[match.end() : match.end() + 8_000]) or _in_a_row(text[match.end() : match.end() + 2_000])
        if count >= 2:
            return count
    return max((_in_a_row(text[match.end() : match.end() + 300]) for match in _ONE_OF.finditer(text)), default=0)


def label_of(output: str) -> str | None:
    """An answer as a label: a few words, or an object with one such value; None where it is longer or a number."""
    text = output.strip()
    if text.startswith("{"):
        text = _only_value(text)
    text = text.strip(" .\"'`*\n").lower()
    is_label = 1 < len(text) <= _MAX_LABEL and "\n" not in text and len(text.split()) <= 6
    return text if is_label and any(one.isalpha() for one in text) else None


def is_short(output: str) -> bool:
    """Whether an answer may be a label: a few words, or a number or letter that stands for one."""
    return label_of(output) is not None or len(output.strip()) <= _MAX_CODE


def is_picked(label: str, text: str) -> bool:
    """Whether a text lists an answer among others: beside a comma, a bar or an `or`, or on a line of a list."""
    if label not in text:
        return False
    word = re.escape(label)
    beside = rf"(?:,|/|\||\bor\b|^\s*[-*•]|:)\s*['\"]?{word}\b(?=['\"]?\s*(?:[,/|.\n)]|or\b|$))"
    return re.search(rf"{beside}|\b{word}['\"]?\s*(?:,|/|\||or\b)", text, re.M) is not None


def fields_of(output: str) -> int:
    """How many fields an answer has that is a JSON object, fenced or not; 0 where it is none."""
    text = output.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not text.startswith("{"):
        return 0
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return 0
    return len(found) if isinstance(found, dict) else 0


def _only_value(text: str) -> str:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    main = {name: value for name, value in found.items() if name.lower() not in BESIDE_A_LABEL}
    if len(main) != 1:
        return ""
    value = next(iter(main.values()))
    return str(value) if isinstance(value, str | bool) else ""


def _bullets(text: str) -> int:
    """How many lines in a row begin as the lines of a list do."""
    count = 0
    for line in text.lstrip("\r\n").splitlines():
        if not line.strip():
            continue
        if _BULLET.match(line) is None:
            break
        count += 1
    return count


def _in_a_row(text: str) -> int:
    """How many short items a line lists before its sentence ends."""
    line = re.split(r"[.\n?!]", text, maxsplit=1)[0].strip(" []()")
    items = [item.strip(" '\"`“”") for item in _SEPARATORS.split(line) if item.strip(" '\"`“”")]
    are_short = all(len(item) <= 40 and len(item.split()) <= 3 for item in items)
    return len(items) if len(items) >= 2 and are_short else 0
