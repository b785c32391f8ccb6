"""Finding amounts and counts in a text."""

from __future__ import annotations

import re

_NUMBER = r"\d{1,3}(?:[,.' ]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d+)?"
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW", "zł": "PLN"}
_CODES = "EUR|USD|GBP|CHF|JPY|CNY|INR|PLN|SEK|NOK|DKK|CZK|HUF|CAD|AUD|NZD|BRL|MXN|ZAR|KRW|SGD|HKD|TRY|RUB"
_CURRENCY = re.compile(rf"\b({_CODES})\b|([€$£¥₹₽₩]|zł)")
_MONEY = re.compile(rf"(?:(?:{_CODES})|[€$£¥₹₽₩])\s?({_NUMBER})|({_NUMBER})\s?(?:(?:{_CODES})\b|[€£¥₹₽₩]|zł)")
_PLAIN = re.compile(rf"(?<![\w./-])-?({_NUMBER})(?![\w/-])")
_DECIMAL = re.compile(r"(?<![\w./-])(\d{1,3}(?:[,.' ]\d{3})*[.,]\d{2})(?![\w/-]|[.,]\d)")
_GROUP = 3


def currency(text: str) -> str | None:
    """The first currency, as its ISO code."""
    found = _CURRENCY.search(text)
    if found is None:
        return None
    return found[1] or _SIGNS[found[2]]


def money(text: str, near: list[str]) -> float | None:
    """An amount of money: on the last line that speaks of the words, else the greatest."""
    lines = [line for line in text.splitlines() if _speaks(line, near)]
    for line in reversed(lines):
        amounts = _amounts(line)
        if amounts:
            return amounts[-1]
    return max(_amounts(text), default=None)


def count(text: str, near: list[str]) -> float | None:
    """A number beside one of the words: before it, or shortly after."""
    for word in near:
        name = re.escape(word)
        found = re.search(rf"\b{name}\w*\s*(?:is|are|of|:|=|#|no\.?)?\s*({_NUMBER})\b", text, re.IGNORECASE)
        found = found or re.search(rf"\b({_NUMBER})\s*(?:x\s+)?{name}", text, re.IGNORECASE)
        if found:
            return value(found[1])
    return None


def first_number(text: str) -> float | None:
    """The first number that stands alone."""
    found = _PLAIN.search(text)
    return value(found[1]) if found else None


def value(written: str) -> float:
    """The number as written: 1,234.56 and 1.234,56 are one."""
    digits = written.replace(" ", "").replace("'", "")
    last = max(digits.rfind("."), digits.rfind(","))
    decimals = len(digits) - last - 1
    if last >= 0 and decimals != _GROUP:
        return float(re.sub(r"[.,]", "", digits[:last]) + "." + digits[last + 1 :])
    return float(re.sub(r"[.,]", "", digits))


def _speaks(line: str, near: list[str]) -> bool:
    low = line.lower()
    return any(re.search(rf"\b{re.escape(word)}", low) for word in near)


def _amounts(text: str) -> list[float]:
    signed = [value(found[1] or found[2]) for found in _MONEY.finditer(text)]
    return signed or [value(found[1]) for found in _DECIMAL.finditer(text)]
