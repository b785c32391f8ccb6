"""Strings that match a regular expression, where it is a simple one."""

from __future__ import annotations

import re
import string

from tierq_simulator.chance import Dice

_CLASSES = {"d": string.digits, "w": string.ascii_lowercase + string.digits, "s": " "}
_OTHERS = {"D": "x", "W": "-", "S": "x"}
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
_PRINTABLE = string.ascii_letters + string.digits + " -_.,"
_MORE = 3


class UnsupportedPatternError(ValueError):
    """The expression uses something this sampler does not know."""


def sample(pattern: str, dice: Dice) -> str | None:
    """A string the pattern is found in; None where no such string was found."""
    for _ in range(4):
        try:
            made = _Sampler(pattern, dice).sample()
        except (UnsupportedPatternError, IndexError):
            return None
        if re.search(pattern, made):
            return made
    return None


class _Sampler:
    """Reads the expression once, from left to right, writing as it reads."""

    def __init__(self, pattern: str, dice: Dice) -> None:
        self._pattern = pattern
        self._dice = dice
        self._at = 0

    def sample(self) -> str:
        """One string for the whole expression."""
        made = self._alternatives()
        if self._at < len(self._pattern):
            raise UnsupportedPatternError(self._pattern)
        return made

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._take()
            options.append(self._sequence())
        return self._dice.choice(options)

    def _sequence(self) -> str:
        made = []
        while self._peek() not in ("", "|", ")"):
            start = self._at
            piece = self._atom()
            end = self._at
            low, high = self._repeats()
            after = self._at
            times = low + self._dice.below(high - low + 1)
            pieces = [piece] if times else []
            for _ in range(times - 1):
                self._at = start
                pieces.append(self._atom())
            self._at = after if after > end else end
            made.extend(pieces)
        return "".join(made)

    def _atom(self) -> str:
        sign = self._take()
        if sign in "^$":
            return ""
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._dice.choice(self._set())
        if sign == "\\":
            return self._escape()
        return self._dice.choice(string.ascii_lowercase) if sign == "." else sign

    def _group(self) -> str:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise UnsupportedPatternError(self._pattern)
        made = self._alternatives()
        if self._take() != ")":
            raise UnsupportedPatternError(self._pattern)
        return made

    def _escape(self) -> str:
        sign = self._take()
        if sign in "bBAZz":
            return ""
        if sign in _CLASSES:
            return self._dice.choice(_CLASSES[sign])
        if sign.isalnum() and sign not in _OTHERS and sign not in _ESCAPES:
            raise UnsupportedPatternError(self._pattern)
        return _OTHERS.get(sign) or _ESCAPES.get(sign, sign)

    def _set(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._take()
        members = self._member()
        while self._peek() != "]":
            members += self._member()
        self._take()
        if not negated:
            return members
        return "".join(sign for sign in _PRINTABLE if sign not in members)

    def _member(self) -> str:
        sign = self._take()
        if sign == "\\":
            escaped = self._take()
            if escaped in _CLASSES:
                return _CLASSES[escaped]
            sign = _ESCAPES.get(escaped, escaped)
        if self._peek() == "-" and self._pattern[self._at + 1] != "]":
            self._take()
            last = self._take()
            return "".join(map(chr, range(ord(sign), ord(last) + 1)))
        return sign

    def _repeats(self) -> tuple[int, int]:
        sign = self._peek()
        simple = {"*": (0, _MORE), "+": (1, _MORE), "?": (0, 1)}.get(sign)
        if simple is None:
            found = re.compile(r"\{(\d+)(,?)(\d*)\}").match(self._pattern, self._at)
            if found is None:
                return 1, 1
            self._at = found.end()
            low = int(found[1])
            simple = (low, int(found[3]) if found[3] else low + _MORE if found[2] else low)
        else:
            self._take()
        if self._peek() == "?":
            self._take()
        return simple
