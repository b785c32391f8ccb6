"""What a sample's label may be, by the type of its task."""

from __future__ import annotations

from typing import Any

import orjson
from jsonschema_rs import ValidationError, validator_for

from tierq_shared.checks import did_you_mean, text
from tierq_shared.errors import InvalidTask
from tierq_shared.tasks import Task

ANSWER_FIELDS = ("answer", "citations", "answerable")

_MASK = "the value"


class Expectations:
    """Checks labels; each schema is made ready once."""

    def __init__(self, field: str) -> None:
        self._field = field
        """What the file calls the label."""
        self._validators: dict[str, Any] = {}

    def check(self, task: Task[Any], value: Any) -> Any:
        """The label as scores compare it.

        Raises:
            InvalidTask: it is missing, or no answer to this task could be like it; names the field and the mend.
        """
        if task.type == "generate":
            return None if value in (None, "") else text(value, self._field)
        if value is None or value == "":
            raise self._refused("is missing: give every sample the answer that is right")
        if task.type == "classify":
            return self._labels(task, value) if task.content.multi else self._label(task, value)
        return self._fields(task, value) if task.type == "extract" else self._answer(task, value)

    def _label(self, task: Task[Any], value: Any) -> str:
        known = task.content.labels or {}
        if value not in known:
            hint = did_you_mean(str(value), known)
            raise self._refused(f"{str(value)[:80]!r} is none of the labels{hint}; they are {', '.join(known)[:500]}")
        return str(value)

    def _labels(self, task: Task[Any], value: Any) -> list[str]:
        if isinstance(value, str):
            value = self._json(value) if value.lstrip().startswith("[") else [one.strip() for one in value.split(",")]
        if not isinstance(value, list):
            raise self._refused("must be a list of labels, or labels with commas between them")
        return sorted({self._label(task, one) for one in value})

    def _fields(self, task: Task[Any], value: Any) -> dict[str, Any]:
        found = self._object(value)
        validator = self._validators.get(task.content.id)
        if validator is None:
            validator = self._validators[task.content.id] = validator_for(task.content.schema or {}, mask=_MASK)
        try:
            validator.validate(found)
        except ValidationError as error:
            place = ".".join(map(str, error.instance_path))
            raise self._refused(f"does not fit the schema{f' at {place}' if place else ''}: {error.message}") from None
        return found

    def _answer(self, task: Task[Any], value: Any) -> dict[str, Any]:
        found = {name: one for name, one in self._object(value).items() if one is not None}
        unknown = [name for name in found if name not in ANSWER_FIELDS]
        if unknown or not found:
            what = f"has {unknown[0]!r}{did_you_mean(unknown[0], ANSWER_FIELDS)}" if unknown else "is empty"
            raise self._refused(f"{what}: give some of {', '.join(ANSWER_FIELDS)}")
        if not isinstance(found.get("answerable", True), bool):
            raise self._refused("answerable must be true or false")
        if "answer" in found:
            text(found["answer"], self._field)
        if "citations" in found:
            self._check_citations(task, found["citations"])
        return found

    def _check_citations(self, task: Task[Any], citations: Any) -> None:
        if not isinstance(citations, list) or not all(isinstance(one, str) for one in citations):
            raise self._refused("citations must be a list of passage ids")
        known = [passage["id"] for passage in orjson.loads(task.input_json)["passages"]]
        for one in citations:
            if one not in known:
                raise self._refused(f"cites {one[:80]!r}, which is none of its passages; they are {', '.join(known)}")

    def _object(self, value: Any) -> dict[str, Any]:
        found = self._json(value) if isinstance(value, str) else value
        if not isinstance(found, dict):
            raise self._refused(f"must be an object, not {type(found).__name__}")
        return found

    def _json(self, value: str) -> Any:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise self._refused(f"is broken JSON ({error.msg} at character {error.pos})") from None

    def _refused(self, reason: str) -> InvalidTask:
        return InvalidTask(reason, field=self._field)
