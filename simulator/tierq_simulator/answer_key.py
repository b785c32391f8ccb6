"""The right answers to inputs that somebody labelled: with them, skill is measured against more than simple rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from tierq_simulator.reading import question

_INPUT_NAMES = ("text", "question", "prompt")


class AnswerKey:
    """Right answers by their inputs. An input is a text, a question (whatever its passages) or a prompt."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        self._known = {_plain(text): answer for text, answer in (known or {}).items()}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, text: str) -> Any:
        """The right answer to an input as it stands in a prompt; None where nobody gave one."""
        if not self._known:
            return None
        return self._known.get(_plain(question(text) if "<question" in text else text))

    @classmethod
    def read(cls, sources: Iterable[object], where: str) -> AnswerKey:
        """From files of JSONL and from objects, each with ``text``, ``question`` or ``prompt``, and ``expected``.

        Raises:
            ValueError: a file cannot be read or an object is not one of these; the message says where.
        """
        known: dict[str, Any] = {}
        for number, source in enumerate(sources):
            place = f"{where}[{number}]"
            if isinstance(source, str):
                known.update(_of_file(Path(source), place))
            else:
                known.update([_entry(source, place)])
        return cls(known)


def _of_file(path: Path, where: str) -> Iterable[tuple[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{where}: {path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            yield _entry(orjson.loads(line), f"{path}:{number}")
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: is broken JSON: {error.msg}") from None


def _entry(source: object, where: str) -> tuple[str, Any]:
    if isinstance(source, dict) and "expected" in source:
        text = next((source[name] for name in _INPUT_NAMES if isinstance(source.get(name), str)), None)
        if text is not None:
            return text, source["expected"]
    raise ValueError(f"{where}: an object with expected and one of {', '.join(_INPUT_NAMES)} is wanted")


def _plain(text: str) -> str:
    """The text as it is before it is put into a prompt."""
    return text.replace("&lt;/", "</").strip()
