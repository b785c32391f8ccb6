"""Makes a task of each row: of named columns where one spec holds for all, of whole lines where each names its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError

from tierq_console.inputs import Row
from tierq_shared.checks import choice, known_fields
from tierq_shared.errors import InvalidTask
from tierq_shared.options import TaskOptions
from tierq_shared.settings import Seconds
from tierq_shared.specs import TASK_TYPES, TaskType
from tierq_shared.tasks import Answer, Classify, Extract, Generate, Spec, Task

INPUT_FIELDS: dict[TaskType, tuple[str, ...]] = {
    "classify": ("text",),
    "extract": ("text",),
    "answer": ("question", "passages"),
    "generate": ("prompt",),
}
"""What each task has of its own; the rest it shares with its spec."""

_SPEC_FIELDS: dict[TaskType, tuple[str, ...]] = {
    "classify": ("labels", "multi"),
    "extract": ("schema",),
    "answer": (),
    "generate": (),
}
_COMMON_SPEC_FIELDS = ("name", "instructions", "examples", "max_output_tokens")
_TASK_FIELDS = tuple(TaskOptions.__annotations__)
_TIER_FIELDS = ("tier", "min_tier", "max_tier")

_SPECS: dict[TaskType, Callable[..., Spec[Any]]] = {
    "classify": Classify.spec,
    "extract": Extract.spec,
    "answer": Answer.spec,
    "generate": Generate.spec,
}

_CACHED_SPECS = 1_000


class TaskMaker(Protocol):
    """Makes the task of a row."""

    has_keys: bool
    """Whether rows bring keys of their own, which may then be given twice."""

    def task(self, row: Row, place: str) -> Task[Any]:
        """The row's task. ``place`` is its key where it brings none.

        Raises:
            InvalidTask: with the field at fault, by the name that the file has for it.
        """
        ...


class ColumnTasks:
    """Tasks of one spec, each from the columns of its row."""

    def __init__(self, spec: Spec[Any], columns: Mapping[str, str], key_column: str | None) -> None:
        self.spec = spec
        self.has_keys = key_column is not None
        self._columns = dict(columns)
        self._key_column = key_column
        self._inputs = [self._columns[name] for name in INPUT_FIELDS[spec.content.type]]

    def task(self, row: Row, place: str) -> Task[Any]:
        values = row.values
        inputs = [_present(values, column) for column in self._inputs]
        key = place if self._key_column is None else _present(values, self._key_column)
        try:
            if len(inputs) > 1:
                inputs[1] = read_passages(inputs[1])
            made: Task[Any] = self.spec(*inputs, key=key)  # type: ignore[operator]  # each kind of spec is called alike
        except InvalidTask as error:
            raise self._in_columns(error, values) from None
        return made

    def _in_columns(self, error: InvalidTask, values: Mapping[str, Any]) -> InvalidTask:
        column = self._key_column if error.field == "key" else self._columns.get(error.field or "")
        return InvalidTask(_undecoded(values.get(column or "")) or error.reason, field=column or error.field)


class LineTasks:
    """Tasks of any kind, each a line of its own. ``defaults`` hold for what a line does not say itself."""

    has_keys = True

    def __init__(self, defaults: TaskOptions) -> None:
        self._defaults: dict[str, Any] = dict(defaults)
        self._specs: dict[bytes, Spec[Any]] = {}

    def task(self, row: Row, place: str) -> Task[Any]:
        values = {name: value for name, value in row.values.items() if value is not None}
        type_ = _type_of(values)
        inputs, of_spec = INPUT_FIELDS[type_], (*_SPEC_FIELDS[type_], *_COMMON_SPEC_FIELDS)
        known_fields(values, ("type", "key", *inputs, *of_spec, *_TASK_FIELDS))
        spec = self._spec(type_, {name: values[name] for name in of_spec if name in values})
        given = [_present(values, name) for name in inputs]
        if type_ == "answer":
            given[1] = read_passages(given[1])
        made: Task[Any] = spec(  # type: ignore[operator]  # each kind of spec is called alike
            *given, key=values.get("key", place), **self._options(values)
        )
        return made

    def _options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        options = {name: values[name] for name in _TASK_FIELDS if name in values}
        if "deadline" in options:
            options["deadline"] = read_deadline(options["deadline"])
        if isinstance(options.get("cache"), str | int | float) and not isinstance(options["cache"], bool):
            options["cache"] = read_cache_age(options["cache"])
        names_tier = any(name in options for name in _TIER_FIELDS)
        defaults = {name: value for name, value in self._defaults.items() if not (names_tier and name in _TIER_FIELDS)}
        return {**defaults, **options}

    def _spec(self, type_: TaskType, fields: dict[str, Any]) -> Spec[Any]:
        """The spec that a line describes: checking labels and schemas costs far more than making a task."""
        content = orjson.dumps([type_, fields])
        spec = self._specs.get(content)
        if spec is None:
            if len(self._specs) >= _CACHED_SPECS:
                self._specs.clear()
            spec = self._specs[content] = make_spec(type_, fields)
        return spec


def make_spec(type_: TaskType, fields: Mapping[str, Any], options: TaskOptions | None = None) -> Spec[Any]:
    """A spec of a type from its fields by name.

    Raises:
        InvalidTask: a field is missing or cannot be used.
    """
    for name in _SPEC_FIELDS[type_]:
        if name not in fields and name != "multi":
            raise InvalidTask(f"is missing: a task of type {type_} needs it", field=name)
    return _SPECS[type_](**{"name": type_, **fields, **(options or {})})


def read_deadline(value: object) -> datetime | timedelta:
    """A span such as `2h`, or a point in time in ISO 8601 with its zone.

    Raises:
        InvalidTask: it is neither.
    """
    try:
        return _positive(timedelta(seconds=_SPAN.validate_python(value)))
    except (ValidationError, OverflowError):
        pass
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidTask(
            f"{value!r} is neither a span such as 30m, 2h or 1d nor a time such as 2031-05-01T12:00:00Z",
            field="deadline",
        ) from None
    if time.tzinfo is None:
        raise InvalidTask("has no time zone: add Z, or an offset such as +02:00", field="deadline")
    return time


def read_cache_age(value: object) -> timedelta:
    """How old a stored answer may be: a span such as `7d`.

    Raises:
        InvalidTask: it is none.
    """
    try:
        return timedelta(seconds=_SPAN.validate_python(value))
    except (ValidationError, OverflowError):
        raise InvalidTask(f"{value!r} is not a span such as 30m, 2h or 7d", field="cache") from None


def read_passages(value: object) -> object:
    """Passages as `Answer` takes them, from what a column can hold: JSON, a list of texts, or one text."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("[", "{")):
            return {"1": value}
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidTask(f"is broken JSON ({error.msg} at character {error.pos})", field="passages") from None
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return {str(number): text for number, text in enumerate(value, 1)}
    if not isinstance(value, list | dict):
        raise InvalidTask('must be a text, a list of texts, or a list of {"id": …, "text": …}', field="passages")
    return value


_SPAN: TypeAdapter[float] = TypeAdapter(Seconds)


def _positive(span: timedelta) -> timedelta:
    if span <= timedelta(0):
        raise InvalidTask("must be a span of time after submission", field="deadline")
    return span


def _present(values: Mapping[str, Any], name: str) -> Any:
    value = values.get(name)
    if value is None:
        raise InvalidTask("is missing", field=name)
    return value


def _type_of(values: Mapping[str, Any]) -> TaskType:
    if "type" not in values:
        raise InvalidTask(
            f"is missing: give each line one of {', '.join(TASK_TYPES)}, or one for all with --type", field="type"
        )
    return choice(values["type"], "type", TASK_TYPES)  # type: ignore[return-value]  # it is one of them


def _undecoded(value: object) -> str | None:
    """Why a text is refused whose bytes were no UTF-8; None where that is not the fault."""
    if not isinstance(value, str):
        return None
    mark = next((one for one in value if "\udc80" <= one <= "\udcff"), None)
    return None if mark is None else f"holds byte {ord(mark) - 0xDC00:#04x}, which is not UTF-8: save the file as UTF-8"
