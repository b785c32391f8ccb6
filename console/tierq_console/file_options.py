"""The options of `tierq run`, `tierq quote` and `tierq submit`, and the job they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import click
import orjson

from tierq.intake import Intake
from tierq_console.inputs import Source, open_source
from tierq_console.inputs.csv_rows import CsvSource
from tierq_console.jobs import Job
from tierq_console.rows import (
    INPUT_FIELDS,
    ColumnTasks,
    LineTasks,
    TaskMaker,
    make_spec,
    read_cache_age,
    read_deadline,
)
from tierq_shared import checks
from tierq_shared.errors import InvalidInput, InvalidTask
from tierq_shared.options import STAKES, URGENCIES, WHEN_REACHED, TaskOptions, WhenReached, check_max_cost
from tierq_shared.policy import Policy
from tierq_shared.settings import Settings
from tierq_shared.specs import TASK_TYPES, TaskType
from tierq_shared.tasks import Spec

_COLUMN_OPTIONS = ("text", "question", "passages", "prompt")
_SPEC_OPTIONS = ("labels", "schema", "instructions", "name", "multi", "max_output_tokens")
_TASK_OPTIONS = ("tier", "min_tier", "max_tier", "stakes", "urgency", "priority")

_SAMPLE_TEXT = "text"
_ANY_AGE = "any age"
"""What `--cache` says without a span."""

_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FILE and all that says what its rows are, and how they are to be run."""
    return _decorated(command, (*_ROWS, *_TASKS, *_EXTENT))


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FILE and all that says what its rows are, where how they are run is the command's own matter."""
    return _decorated(command, (*_ROWS, *_EXTENT))


def _decorated(command: Callable[..., Any], options: tuple[_Decorator, ...]) -> Callable[..., Any]:
    for decorate in reversed(options):
        command = decorate(command)
    return command


@dataclass(frozen=True)
class Given:
    """What was given on the command line, by the options' names."""

    file: Path
    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def some(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of the options that were given."""
        return {name: self.values[name] for name in names if self.values.get(name) not in (None, False, ())}


def make_job(file: Path, values: Mapping[str, Any]) -> Job:
    """The job that the options describe.

    Raises:
        InvalidTask: an option cannot be used; the message names it and the mend.
    """
    given = Given(file, values)
    source = open_source(file)
    options = _task_options(given)
    identity: dict[str, Any] = given.some(
        (*_TASK_OPTIONS, "require", "tag", "deadline", "cache", "no_store_input", "limit", "skip_bad", "key")
    )
    maker: TaskMaker
    if given.get("type") is None:
        maker = _line_tasks(given, source, options)
    else:
        maker = _column_tasks(given, source, options)
        identity |= {"spec": maker.spec.content.id, **given.some(_COLUMN_OPTIONS)}
    return Job(
        source=source,
        maker=maker,
        identity=identity,
        tags=_pairs(given.get("tag") or (), "--tag"),
        deadline=_deadline(given),
        skip_bad=bool(given.get("skip_bad")),
        limit=given.get("limit"),
        max_cost=given.get("max_cost"),
        on_cap=_on_cap(given),
    )


def check_options(job: Job, settings: Settings, policy: Policy) -> None:
    """Refuses options that no task could meet, once for all rows: a tier that does not exist, a region nobody serves.

    Raises:
        InvalidTask: with the option at fault.
    """
    if not isinstance(job.maker, ColumnTasks):
        return
    intake = Intake(settings, policy, lambda: datetime.now(UTC), None)
    try:
        intake.prepare(_sample(job.maker.spec), 0)
    except InvalidTask as error:
        raise _of_option(error) from None


def _sample(spec: Spec[Any]) -> Any:
    inputs: list[Any] = [_SAMPLE_TEXT] * len(INPUT_FIELDS[spec.content.type])
    if len(inputs) > 1:
        inputs[1] = {"1": _SAMPLE_TEXT}
    return spec(*inputs)  # type: ignore[operator]  # each kind of spec is called alike


def _line_tasks(given: Given, source: Source, options: TaskOptions) -> LineTasks:
    if isinstance(source, CsvSource):
        raise InvalidInput(f"{given.file}: say what its rows are with --type {'|'.join(TASK_TYPES)}")
    for name in (*_SPEC_OPTIONS, *_COLUMN_OPTIONS, "key"):
        if given.some((name,)):
            raise InvalidInput(
                f"{_option(name)} needs --type: without it each line is a whole task and names its own fields"
            )
    return LineTasks(options)


def _column_tasks(given: Given, source: Source, options: TaskOptions) -> ColumnTasks:
    type_: TaskType = given.values["type"]
    fields = given.some(_SPEC_OPTIONS)
    _refuse_foreign(type_, fields, given)
    if "labels" in fields:
        fields["labels"] = read_labels(fields["labels"])
    if "schema" in fields:
        fields["schema"] = _read_json(Path(fields["schema"].removeprefix("@")), "--schema")
    if "instructions" in fields:
        fields["instructions"] = text_or_file(fields["instructions"], "--instructions")
    try:
        spec = make_spec(type_, fields, options)
    except InvalidTask as error:
        raise _of_option(error) from None
    columns = {name: given.get(name) or name for name in INPUT_FIELDS[type_]}
    key = given.get("key")
    source.require_columns(
        {_option(name): column for name, column in columns.items()} | ({"--key": key} if key else {})
    )
    return ColumnTasks(spec, columns, key)


def _refuse_foreign(type_: TaskType, fields: Mapping[str, Any], given: Given) -> None:
    """Refuses options that say nothing about this type of task."""
    foreign = [("labels", "classify"), ("multi", "classify"), ("schema", "extract")]
    wrong = [name for name, owner in foreign if name in fields and owner != type_]
    wrong += [name for name in given.some(_COLUMN_OPTIONS) if name not in INPUT_FIELDS[type_]]
    for name in wrong:
        wanted = ", ".join(_option(one) for one in INPUT_FIELDS[type_])
        raise InvalidInput(f"{_option(name)} means nothing for --type {type_}, whose columns are named by {wanted}")


def _task_options(given: Given) -> TaskOptions:
    options: dict[str, Any] = given.some(_TASK_OPTIONS)
    if given.get("priority") == 0:
        options["priority"] = 0
    if given.get("require"):
        options["require"] = _pairs(given.values["require"], "--require")
    if given.get("cache") is not None:
        options["cache"] = _cache(given.values["cache"])
    if given.get("no_store_input"):
        options["store_input"] = False
    return options  # type: ignore[return-value]  # the names are TaskOptions' own


def _deadline(given: Given) -> Any:
    if given.get("deadline") is None:
        return None
    try:
        return read_deadline(given.values["deadline"])
    except InvalidTask as error:
        raise _of_option(error) from None


def _cache(given: str) -> Any:
    try:
        return given == _ANY_AGE or read_cache_age(given)
    except InvalidTask as error:
        raise InvalidInput(f"--cache: {error.reason}; for an answer of any age write --cache after FILE") from None


def _on_cap(given: Given) -> WhenReached | None:
    """What happens at the cap; also checks the cap itself, before the file is read."""
    cap, way = given.get("max_cost"), given.get("on_cap")
    if cap is None and way is not None:
        raise InvalidInput("--on-cap says what happens at a cap, and there is none: give --max-cost too")
    try:
        return way if cap is None or check_max_cost(cap) else None
    except InvalidTask as error:
        raise _of_option(error) from None


def read_labels(value: str) -> Any:
    """Labels from `a,b,c`, from a JSON file (a list, or label → description), or from a file with one a line.

    Raises:
        InvalidInput: the file cannot be read.
    """
    path = Path(value.removeprefix("@"))
    if path.suffix.lower() == ".json":
        return _read_json(path, "--labels")
    if value.startswith("@"):
        return [line.strip() for line in _read_text(path, "--labels").splitlines() if line.strip()]
    return [label.strip() for label in value.split(",") if label.strip()]


def _pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise InvalidInput(f"{option} {pair}: write it as name=value")
        found[name.strip()] = value.strip()
    try:
        return checks.string_map(found, option.removeprefix("--"))
    except InvalidTask as error:
        raise InvalidInput(f"{option}: {error.reason}") from None


def text_or_file(value: str, option: str) -> str:
    """A text as it was given, or what stands in the file that `@FILE` names.

    Raises:
        InvalidInput: the file cannot be read.
    """
    return _read_text(Path(value[1:]), option) if value.startswith("@") else value


def _read_json(path: Path, option: str) -> Any:
    try:
        return orjson.loads(_read_text(path, option))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{option} {path}:{error.lineno}: is broken JSON ({error.msg}, column {error.colno})"
        ) from None


def _read_text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{option} {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{option} {path}: is not UTF-8: save it as UTF-8") from None


def _of_option(error: InvalidTask) -> InvalidInput:
    return InvalidInput(f"{_option(error.field)}: {error.reason}" if error.field else error.reason)


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


_ROWS: tuple[_Decorator, ...] = (
    click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    click.option(
        "--type",
        "type",
        type=click.Choice(TASK_TYPES),
        help="What every row is a task of. Without it, each line of a JSONL file is a whole task.",
    ),
    click.option("--text", metavar="COLUMN", help="classify, extract: the column with the text.  [default: text]"),
    click.option("--question", metavar="COLUMN", help="answer: the column with the question.  [default: question]"),
    click.option(
        "--passages",
        metavar="COLUMN",
        help="answer: the column with the passages: a text, a list of texts, or of {id, text}.  [default: passages]",
    ),
    click.option("--prompt", metavar="COLUMN", help="generate: the column with the prompt.  [default: prompt]"),
    click.option(
        "--key",
        metavar="COLUMN",
        help="The column that names each row, unique in the file. Without it, keys are `line 2`, `line 3`, …",
    ),
    click.option(
        "--labels",
        metavar="A,B,…|FILE.json|@FILE",
        help="classify: the labels; a JSON file holds a list or label → description, another file one a line.",
    ),
    click.option("--multi", is_flag=True, help="classify: any number of labels, not one."),
    click.option("--schema", metavar="FILE", help="extract: a JSON Schema."),
    click.option("--instructions", metavar="TEXT|@FILE", help="What the model is told before the input."),
    click.option(
        "--name", metavar="NAME", help="What this kind of task is called in policies and reports.  [default: the type]"
    ),
    click.option("--max-output-tokens", type=int, metavar="N"),
)
_TASKS: tuple[_Decorator, ...] = (
    click.option("--tier", metavar="TIER", help="Pins every task to this tier: no policy, no escalation."),
    click.option("--min-tier", metavar="TIER"),
    click.option("--max-tier", metavar="TIER"),
    click.option("--stakes", type=click.Choice(STAKES), help="What a wrong answer costs."),
    click.option("--urgency", type=click.Choice(URGENCIES), help="Who waits for it."),
    click.option("--priority", type=click.IntRange(0, 9), metavar="0-9", help="9 goes first."),
    click.option("--deadline", metavar="2h|TIME", help="When the answers are of no more use."),
    click.option(
        "--require", multiple=True, metavar="NAME=VALUE", help="What a deployment must have, such as region=eu."
    ),
    click.option("--tag", multiple=True, metavar="NAME=VALUE", help="Kept with the batch, such as team=support."),
    click.option(
        "--cache",
        is_flag=False,
        flag_value=_ANY_AGE,
        metavar="[SPAN]",
        help="Takes the stored answers of identical tasks, of any age or as old as 7d. Write it after FILE.",
    ),
    click.option(
        "--no-store-input", is_flag=True, help="Erases each input when its task has ended. It cannot be retried then."
    ),
    click.option("--max-cost", metavar="USD", help="A hard cap on what all calls of the batch cost together."),
    click.option(
        "--on-cap",
        type=click.Choice(WHEN_REACHED),
        help="What tasks do that the cap has no room for.  [default: fail]",
    ),
)
_EXTENT: tuple[_Decorator, ...] = (
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows."),
    click.option(
        "--skip-bad", is_flag=True, help="Sets rows that cannot be used aside in FILE.bad.jsonl, and goes on."
    ),
)
