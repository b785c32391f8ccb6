"""The four typed tasks, and the specs that many of them share.

A task is cheap to make: what is constant is checked once in its spec, what is its own when the task is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Unpack, overload

import orjson
from jsonschema_rs import validator_for
from pydantic import BaseModel

from tierq_shared import checks
from tierq_shared.errors import InvalidTask
from tierq_shared.options import SpecOptions, TaskOptions, check_options
from tierq_shared.prompts import example_answer, output_schema
from tierq_shared.schemas import check_schema
from tierq_shared.specs import (
    SpecBody,
    TaskType,
    check_examples,
    check_labels,
    check_max_output_tokens,
    check_multi,
    check_name,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

MAX_PASSAGES = 200

Labels: TypeAlias = Sequence[str] | Mapping[str, str] | Mapping[str, str | None]
Passages: TypeAlias = Mapping[str, str] | Iterable[Mapping[str, str]]


class AnswerOutput(BaseModel):
    """What an `Answer` task gives: the answer, the ids of the passages it rests on, and whether they held it at all."""

    answer: str
    citations: list[str]
    answerable: bool


class Task(Generic[T]):
    """One typed unit of LLM work. Make one of `Classify`, `Extract`, `Answer`, `Generate`."""

    __slots__ = ("_input", "content", "key", "options", "output_type")

    def __init__(
        self,
        content: SpecBody,
        payload: dict[str, Any],
        key: object,
        options: TaskOptions,
        output_type: type[BaseModel] | None,
    ) -> None:
        self.content = content
        self.key = checks.key(key)
        self.options = check_options(options) if options else options
        self.output_type = output_type
        self._input = payload

    @property
    def type(self) -> TaskType:
        return self.content.type

    @property
    def input_json(self) -> str:
        """The task's own input, as it is stored."""
        return orjson.dumps(self._input).decode()

    def __repr__(self) -> str:
        # Never the input: a task's repr ends up in logs and tracebacks.
        return f"<{self.type} task {self.content.name!r} key={self.key!r}>"


class Spec(Generic[T]):
    """A kind of task, checked once. Call it with the task's own input and ``key=`` to make its tasks."""

    __slots__ = ("content", "options", "output_type")

    def __init__(self, content: SpecBody, options: TaskOptions, output_type: type[BaseModel] | None = None) -> None:
        self.content = content
        self.options = check_options(options)
        self.output_type = output_type

    def _task(self, payload: dict[str, Any], key: object, options: TaskOptions) -> Task[T]:
        merged: TaskOptions = {**self.options, **options} if options else self.options
        return Task(self.content, payload, key, merged, self.output_type)

    def __repr__(self) -> str:
        return f"<{self.content.type} spec {self.content.name!r} {self.content.id[:8]}>"


class TextSpec(Spec[T]):
    """A spec whose tasks each have one text."""

    __slots__ = ()

    def __call__(self, text: str, *, key: object = None, **options: Unpack[TaskOptions]) -> Task[T]:
        return self._task({"text": checks.text(text, "text")}, key, options)


class AnswerSpec(Spec[AnswerOutput]):
    """A spec whose tasks each have a question and the passages to answer it from."""

    __slots__ = ()

    def __call__(
        self, question: str, passages: Passages, *, key: object = None, **options: Unpack[TaskOptions]
    ) -> Task[AnswerOutput]:
        return self._task(_answer_input(question, passages), key, options)


class GenerateSpec(Spec[str]):
    """A spec whose tasks each have a prompt to write from."""

    __slots__ = ()

    def __call__(self, prompt: str, *, key: object = None, **options: Unpack[TaskOptions]) -> Task[str]:
        return self._task({"prompt": checks.text(prompt, "prompt")}, key, options)


class Classify(Task[T]):
    """One label for a text, or with ``multi=True`` a list of them. Labels are a list, or a mapping to descriptions."""

    __slots__ = ()

    @overload
    def __init__(
        self: Classify[str],
        text: str,
        labels: Labels,
        *,
        multi: Literal[False] = False,
        name: str = "classify",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Classify[list[str]],
        text: str,
        labels: Labels,
        *,
        multi: Literal[True],
        name: str = "classify",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None: ...
    def __init__(
        self,
        text: str,
        labels: Labels,
        *,
        multi: bool = False,
        name: str = "classify",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None:
        content, rest = _content("classify", name, options, labels=check_labels(labels), multi=multi)
        super().__init__(content, {"text": checks.text(text, "text")}, key, rest, None)

    @overload
    @staticmethod
    def spec(
        name: str, labels: Labels, *, multi: Literal[False] = False, **options: Unpack[SpecOptions]
    ) -> TextSpec[str]: ...
    @overload
    @staticmethod
    def spec(
        name: str, labels: Labels, *, multi: Literal[True], **options: Unpack[SpecOptions]
    ) -> TextSpec[list[str]]: ...
    @staticmethod
    def spec(name: str, labels: Labels, *, multi: bool = False, **options: Unpack[SpecOptions]) -> TextSpec[Any]:
        """A kind of classification: call it with a text to make its tasks."""
        return TextSpec(*_content("classify", name, options, labels=check_labels(labels), multi=multi))


class Extract(Task[T]):
    """Fields out of a text, by a pydantic model or a JSON Schema."""

    __slots__ = ()

    @overload
    def __init__(
        self: Extract[M],
        text: str,
        schema: type[M],
        *,
        name: str = "extract",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Extract[dict[str, Any]],
        text: str,
        schema: Mapping[str, Any],
        *,
        name: str = "extract",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None: ...
    def __init__(
        self,
        text: str,
        schema: type[BaseModel] | Mapping[str, Any],
        *,
        name: str = "extract",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None:
        document, model = _schema_of(schema)
        content, rest = _content("extract", name, options, schema=document)
        super().__init__(content, {"text": checks.text(text, "text")}, key, rest, model)

    @overload
    @staticmethod
    def spec(name: str, schema: type[M], **options: Unpack[SpecOptions]) -> TextSpec[M]: ...
    @overload
    @staticmethod
    def spec(name: str, schema: Mapping[str, Any], **options: Unpack[SpecOptions]) -> TextSpec[dict[str, Any]]: ...
    @staticmethod
    def spec(name: str, schema: type[BaseModel] | Mapping[str, Any], **options: Unpack[SpecOptions]) -> TextSpec[Any]:
        """A kind of extraction: call it with a text to make its tasks."""
        document, model = _schema_of(schema)
        return TextSpec(*_content("extract", name, options, schema=document), model)


class Answer(Task[AnswerOutput]):
    """An answer to a question from the passages given with it, and from nothing else."""

    __slots__ = ()

    def __init__(
        self,
        question: str,
        passages: Passages,
        *,
        name: str = "answer",
        key: object = None,
        **options: Unpack[SpecOptions],
    ) -> None:
        content, rest = _content("answer", name, options)
        super().__init__(content, _answer_input(question, passages), key, rest, AnswerOutput)

    @staticmethod
    def spec(name: str, **options: Unpack[SpecOptions]) -> AnswerSpec:
        """A kind of question: call it with a question and passages to make its tasks."""
        return AnswerSpec(*_content("answer", name, options), AnswerOutput)


class Generate(Task[str]):
    """Free text, written from a prompt."""

    __slots__ = ()

    def __init__(
        self, prompt: str, *, name: str = "generate", key: object = None, **options: Unpack[SpecOptions]
    ) -> None:
        content, rest = _content("generate", name, options)
        super().__init__(content, {"prompt": checks.text(prompt, "prompt")}, key, rest, None)

    @staticmethod
    def spec(name: str, **options: Unpack[SpecOptions]) -> GenerateSpec:
        """A kind of writing: call it with a prompt to make its tasks."""
        return GenerateSpec(*_content("generate", name, options))


def _content(
    type_: TaskType,
    name: str,
    options: SpecOptions,
    *,
    labels: dict[str, str | None] | None = None,
    multi: bool = False,
    schema: dict[str, Any] | None = None,
) -> tuple[SpecBody, TaskOptions]:
    """The spec's content, and the options left for the task."""
    rest: dict[str, Any] = dict(options)
    content = SpecBody(
        type=type_,
        name=check_name(name),
        instructions=checks.optional_text(
            rest.pop("instructions", None), "instructions", max_bytes=checks.MAX_INSTRUCTIONS_BYTES
        ),
        labels=labels,
        multi=check_multi(multi),
        schema=schema,
        examples=check_examples(rest.pop("examples", ())),
        max_output_tokens=check_max_output_tokens(rest.pop("max_output_tokens", None)),
    )
    _check_worked_examples(content)
    return content, rest  # type: ignore[return-value]  # what is left of SpecOptions is TaskOptions


def _check_worked_examples(content: SpecBody) -> None:
    """An example that the model's own answer would be refused for teaches it the wrong thing."""
    schema = output_schema(content) if content.examples else None
    for index, example in enumerate(content.examples):
        if schema is None:
            checks.text(example["output"], "examples")
            continue
        error = next(validator_for(schema).iter_errors(example_answer(content, example["output"])), None)
        if error is not None:
            raise InvalidTask(f"example {index}: its output does not fit: {error.message}", field="examples")


def _schema_of(schema: type[BaseModel] | Mapping[str, Any]) -> tuple[dict[str, Any], type[BaseModel] | None]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return check_schema(schema.model_json_schema()), schema
    return check_schema(dict(schema) if isinstance(schema, Mapping) else schema), None


def _answer_input(question: str, passages: Passages) -> dict[str, Any]:
    listed = [_passage(id_, text) for id_, text in _listed(passages)]
    if not 1 <= len(listed) <= MAX_PASSAGES:
        raise InvalidTask(f"{len(listed)} passages; give 1 to {MAX_PASSAGES}", field="passages")
    if len({passage["id"] for passage in listed}) < len(listed):
        raise InvalidTask("two passages have the same id", field="passages")
    if sum(checks.size_in_bytes(passage["text"]) for passage in listed) > checks.MAX_INPUT_BYTES:
        raise InvalidTask(f"are more than {checks.MAX_INPUT_BYTES:,} bytes together: give fewer", field="passages")
    return {"question": checks.text(question, "question"), "passages": listed}


def _listed(passages: object) -> Iterable[tuple[object, object]]:
    """Passages as pairs of id and text, whichever way they were given."""
    if isinstance(passages, Mapping):
        return passages.items()
    if not isinstance(passages, Iterable):
        raise InvalidTask('must be a mapping of id to text, or a list of {"id": …, "text": …}', field="passages")
    return [_pair(passage) for passage in passages]


def _pair(passage: object) -> tuple[object, object]:
    if not isinstance(passage, Mapping) or set(passage) != {"id", "text"}:
        raise InvalidTask('each must be {"id": …, "text": …}', field="passages")
    return passage["id"], passage["text"]


def _passage(id_: object, text: object) -> dict[str, str]:
    checked = {"id": checks.text(id_, "passages"), "text": checks.text(text, "passages")}
    if len(checked["id"]) > checks.MAX_TAG_CHARS:
        raise InvalidTask(f"a passage's id is longer than {checks.MAX_TAG_CHARS} characters", field="passages")
    return checked
