"""Finding dates in a text."""

from __future__ import annotations

import re
from datetime import date

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_DATE = re.compile(
    r"\b(?:(?P<y1>\d{4})[-/.](?P<m1>\d{1,2})[-/.](?P<d1>\d{1,2})(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2})?))?"
    rf"|(?P<d2>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?P<m2>{_MONTH})\s*,?\s*(?P<y2>\d{{4}})"
    rf"|(?P<m3>{_MONTH})\s+(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?\s*,?\s*(?P<y3>\d{{4}})"
    r"|(?P<a4>\d{1,2})(?P<sep>[./-])(?P<b4>\d{1,2})(?P=sep)(?P<y4>\d{4}))\b"
)
_YEAR_MONTHS = 12


def first_date(text: str, near: list[str]) -> tuple[str, str] | None:
    """The first date (ISO) and its time if any; one on a line that speaks of the given words comes first."""
    lines = [line for line in text.splitlines() if any(word in line.lower() for word in near)]
    for part in [*(_after(line, near) for line in lines), *lines, text]:
        for found in _DATE.finditer(part):
            read = _read(found)
            if read is not None:
                return read, found["time"] or ""
    return None


def _after(line: str, near: list[str]) -> str:
    """What follows the words: a line may name several dates."""
    places = [line.lower().find(word) for word in near if word in line.lower()]
    return line[min(places) :]


def _read(found: re.Match[str]) -> str | None:
    if found["y1"]:
        parts = int(found["y1"]), int(found["m1"]), int(found["d1"])
    elif found["y2"]:
        parts = int(found["y2"]), _month(found["m2"]), int(found["d2"])
    elif found["y3"]:
        parts = int(found["y3"]), _month(found["m3"]), int(found["d3"])
    else:
        parts = int(found["y4"]), *_day_and_month(int(found["a4"]), int(found["b4"]), found["sep"])
    try:
        return date(*parts).isoformat()
    except ValueError:
        return None


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1


def _day_and_month(first: int, second: int, separator: str) -> tuple[int, int]:
    """Month and day: with slashes the month comes first, as in the United States, where it can."""
    if separator == "/" and first <= _YEAR_MONTHS:
        return first, second
    return second, first
