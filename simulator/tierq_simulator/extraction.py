"""Finding the value of a named property in a text, by simple rules a name suggests."""

from __future__ import annotations

import re
from functools import lru_cache

from tierq_simulator import numbers, prose
from tierq_simulator.dates import first_date

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"https?://[^\s<>\"')\]]+[^\s<>\"')\].,;]")
_PHONE = re.compile(r"(?<![\w-])\+?\(?\d(?:[ ()/-]{0,2}\d){8,14}(?![\w-])")
_COMPANY = re.compile(
    r"\b((?:[A-Z][\w&'-]*,? ){1,4}(?:GmbH|AG|SE|KG|Ltd|Limited|Inc|LLC|Corp|PLC|plc|Co|SA|S\.A|BV|B\.V|Oy|AB)\b\.?)"
)
_FROM = re.compile(r"\b(?:from|by|with|at)\s+((?:[A-Z][\w&'-]+ ?){1,4})")
_SIGNED = re.compile(
    r"(?:regards|thanks|cheers|sincerely|best)[,!.]?\s*\n+\s*([A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2})", re.I
)
_PERSON = re.compile(r"\b(?:I am|I'm|my name is|this is)\s+([A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2})")
_IDENTIFIER = r"#?\s*([A-Za-z]{0,6}[-/]?\d[\w/-]*)"

_DATES = frozenset({"date", "day", "due", "deadline", "issued", "when", "birthday", "expires", "expiry"})
_MONEY = frozenset(
    {"amount", "total", "price", "cost", "sum", "fee", "tax", "vat", "subtotal", "net", "gross", "balance", "charge"}
)
_COUNTS = frozenset(
    {"quantity", "qty", "count", "number", "items", "units", "seats", "age", "nights", "days", "people"}
)
_IDENTIFIERS = frozenset(
    {"number", "id", "no", "code", "reference", "ref", "sku", "iban", "order", "ticket", "tracking"}
)
_COMPANIES = frozenset({"vendor", "supplier", "company", "merchant", "seller", "issuer", "employer", "organization"})
_PEOPLE = frozenset({"name", "customer", "client", "person", "sender", "contact", "author", "buyer"})
_TEXTS = frozenset({"summary", "subject", "title", "description", "issue", "problem", "topic", "headline", "text"})
_ITEMS = frozenset({"item", "product", "name", "description", "article"})
_FILLERS = frozenset({"number", "id", "no", "code", "reference", "is", "has", "the", "of"})
_ROW = re.compile(r"^\s*(?:[-*•]\s*|\d+\s*[x×.)]\s*|\d+\s+)(?=.*[A-Za-z]).*\d.*$", re.MULTILINE)


@lru_cache(maxsize=4096)
def name_words(name: str) -> tuple[str, ...]:
    """The words a property's name is made of: invoiceNumber and invoice_number are one."""
    return tuple(word for word in re.split(r"[\W_]+", _CAMEL.sub("_", name).lower()) if word)


def find_text(name: str, text: str, form: str = "") -> str | None:
    """A string for the property, if the text holds one."""
    named = set(name_words(name))
    found = _by_form(named, name_words(name), text, form)
    if found is not None:
        return found
    return _labelled(name_words(name), text) or _by_name(named, name_words(name), text)


def find_number(name: str, text: str) -> float | None:
    """A number for the property, if the text holds one."""
    parts = name_words(name)
    named = set(parts)
    if named & _MONEY:
        near = [word for word in parts if word in _MONEY and word != "amount"] or list(parts)
        amount = numbers.money(text, near)
        return amount * 100 if amount is not None and "cents" in named else amount
    if "percent" in named or "percentage" in named:
        found = re.search(r"(\d+(?:[.,]\d+)?)\s*%", text)
        return numbers.value(found[1]) if found else None
    near = [word for word in parts if word not in _FILLERS]
    beside = numbers.count(text, near)
    return numbers.first_number(text) if beside is None and named & _COUNTS else beside


def find_flag(name: str, text: str) -> bool:
    """Whether the text speaks of what the property's name says, and does not deny it."""
    low = text.lower()
    for word in name_words(name):
        if word in _FILLERS:
            continue
        found = re.search(rf"\b(not |no |n't |without )?{re.escape(word[:6])}", low)
        if found:
            return found[1] is None
    return False


def find_rows(text: str) -> list[str]:
    """The lines that look like items of a list, with a number each."""
    return [found[0].strip() for found in _ROW.finditer(text)][:20]


def row_text(row: str) -> str:
    """A list item without its bullet, quantity and price."""
    bare = re.sub(r"^\s*(?:[-*•]\s*)?(?:\d+\s*[x×.)]?\s+)?", "", row)
    return re.split(r"\s*(?:[-–:@|=]|\bat\b)?\s*(?:[€$£]\s?\d|\b\d+[.,]\d{2}\b)|\s+[x×]\s*\d", bare)[0].strip(" ,;:-–|")


def is_item_text(name: str) -> bool:
    """Whether the property holds what a list item is called."""
    return bool(set(name_words(name)) & _ITEMS)


def _by_form(named: set[str], parts: tuple[str, ...], text: str, form: str) -> str | None:
    if form in ("date", "date-time") or (not form and named & _DATES):
        return _date(parts, text, form)
    if form in ("email", "idn-email") or named & {"email", "mail"}:
        return _first(_EMAIL, text)
    if form in ("uri", "url") or named & {"url", "link", "website", "uri"}:
        return _first(_URL, text)
    if named & {"phone", "telephone", "mobile", "fax"}:
        return _first(_PHONE, text)
    return numbers.currency(text) if "currency" in named else None


def _by_name(named: set[str], parts: tuple[str, ...], text: str) -> str | None:
    if named & _IDENTIFIERS:
        return _identifier(parts, text)
    if named & _COMPANIES:
        return _first(_COMPANY, text) or _first(_FROM, text)
    if named & _PEOPLE:
        return _first(_PERSON, text) or _first(_SIGNED, text) or _first(_COMPANY, text)
    if named & _TEXTS:
        return prose.summary(text) or None
    return None


def _date(parts: tuple[str, ...], text: str, form: str) -> str | None:
    found = first_date(text, [word for word in parts if word not in ("date", "at", "on")])
    if found is None:
        return None
    day, time = found
    if form != "date-time":
        return day
    seconds = ":00" if len(time) == len("HH:MM") else ""
    return f"{day}T{time or '00:00:00'}{seconds}Z"


def _labelled(parts: tuple[str, ...], text: str) -> str | None:
    """The value behind ``Name:`` at the start of a line."""
    found = _label_pattern(parts).search(text)
    return found[1].strip() if found else None


@lru_cache(maxsize=4096)
def _label_pattern(parts: tuple[str, ...]) -> re.Pattern[str]:
    name = r"[\s_-]*".join(map(re.escape, parts))
    return re.compile(rf"^\s*[-*•]?\s*\**{name}\**\s*[:=]\s*(\S[^\n]{{0,200}})$", re.IGNORECASE | re.MULTILINE)


def _identifier(parts: tuple[str, ...], text: str) -> str | None:
    for word in [part for part in parts if part not in _FILLERS] or ["no", "number", "id", "ref"]:
        kind = r"(?:[\s_-]*(?:number|no\.?|nr\.?|num|id|code|reference|ref\.?))?"
        found = re.search(rf"\b{re.escape(word)}{kind}\s*(?:is|:|=|#)?\s*{_IDENTIFIER}", text, re.IGNORECASE)
        if found:
            return found[1]
    return None


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    if found is None:
        return None
    return (found[1] if pattern.groups else found[0]).strip()
