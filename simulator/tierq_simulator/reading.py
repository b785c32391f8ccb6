"""Reading a prompt: the user's input within its tags, words and their stems, passages, sentences."""

from __future__ import annotations

import html
import re
from functools import lru_cache

_OPENING = re.compile(r"^\s*<([A-Za-z_][\w-]*)(?:\s[^<>]*)?>", re.MULTILINE)
_WHOLE_WITH = frozenset({"passage", "passages", "question", "context", "documents"})
_WORD = re.compile(r"[^\W_]+")
# Three times as fast as the expression, and most inputs are ASCII.
_ASCII_GAPS = {code: " " for code in range(128) if not chr(code).isalnum()}
_PASSAGE = re.compile(r"<passage\b[^>]*?\bid\s*=\s*[\"']?([^\"'>\s]+)[\"']?[^>]*>(.*?)</passage>", re.DOTALL)
_QUESTION = re.compile(r"<question\b[^>]*>(.*?)</question>", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_ENDINGS = ("ments", "ment", "ations", "ation", "ings", "ing", "ies", "ied", "es", "ed", "ly", "s", "e", "y")
_STEM_MINIMUM = 3

_STOP_TEXT = (
    "a about after all also am an and any are as at be because been before but by can could did do does doing for from "
    "get got had has have he her here hi hello him his how i if in into is it its just like me more my no not now of "
    "on one only or other our out over please she should so some still than thank thanks that the their them then "
    "there these they this those to too up us very was we were what when where which who whom whose why will with "
    "would you your"
)
STOP_WORDS = frozenset(_STOP_TEXT.split())


def input_of(users: list[str]) -> str:
    """The user's input: what the last tags enclose, else the whole last message."""
    for message in reversed(users):
        enclosed = _enclosed(message)
        if enclosed is not None:
            return enclosed
    return users[-1].strip() if users else ""


def _enclosed(message: str) -> str | None:
    opening = _OPENING.search(message)
    if opening is None:
        return None
    end = message.rfind(f"</{opening[1]}>")
    if end < opening.end():
        return None
    if opening[1] in _WHOLE_WITH:
        return message.strip()
    return message[opening.end() : end].strip()


def words(text: str) -> list[str]:
    """The words, in lower case."""
    if text.isascii():
        return text.lower().translate(_ASCII_GAPS).split()
    return _WORD.findall(text.lower())


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The word without its usual endings: refunds, refunded and refund are one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_MINIMUM:
            return word[: -len(ending)]
    return word


def stems(text: str) -> set[str]:
    """The stems of the words that carry meaning."""
    return {stem(word) for word in set(words(text)) - STOP_WORDS}


def passages(text: str) -> dict[str, str]:
    """The passages by their ids."""
    return {found[1]: html.unescape(found[2]).strip() for found in _PASSAGE.finditer(text)}


def question(text: str) -> str:
    """The question: within its tags, else the last line that asks, else what stands outside the passages."""
    found = _QUESTION.search(text)
    if found is not None:
        return html.unescape(found[1]).strip()
    outside = _PASSAGE.sub("", text).strip()
    asking = [line for line in outside.splitlines() if "?" in line]
    return asking[-1].strip() if asking else outside


def sentences(text: str) -> list[str]:
    """The sentences."""
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]
