"""The reference pages say what the code says: keys, defaults, columns, options, errors."""

from __future__ import annotations

import json
import re
import types
import typing
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import tierq
from tierq_console.commands import COMMANDS
from tierq_shared import configuration, errors
from tierq_shared.cascade import CascadeRule
from tierq_shared.deployments import Deployment, PriceOverlay
from tierq_shared.environment import FILE_SUFFIX
from tierq_shared.options import SpecOptions, TaskOptions
from tierq_shared.outcomes import AttemptOutcome, ErrorClass, Outcome, TaskState
from tierq_shared.policy import DEFAULT_RULES, PolicyRule
from tierq_shared.quoting.figures import Quote, Range, TierQuote
from tierq_shared.settings import (
    REQUIRABLE,
    CapRule,
    FlowerSettings,
    MetricsSettings,
    ReportSettings,
    RetentionSettings,
    Settings,
    ShadowSettings,
    Tier,
    Webhook,
    WorkerSettings,
    _seconds,
)
from tierq_shared.store import tables
from tierq_shared.store.dead_letters import Attempt, FailedTask, FailureGroup, Failures, Retried
from tierq_shared.store.forgetting import Forgotten
from tierq_shared.store.reading import FAILED_CODES, RETRYABLE_CODES, Progress
from tierq_shared.store.sealed import KEYS_VARIABLE
from unit.docs.pages import ROOT, blocks, names, rows, section

REFERENCE = ROOT / "docs" / "reference"
CONFIGURATION = REFERENCE / "configuration.md"
TABLES = REFERENCE / "tables.md"
ERRORS = REFERENCE / "errors.md"
OUTCOMES = REFERENCE / "outcomes.md"
CLI = REFERENCE / "cli.md"
CLIENT = REFERENCE / "client.md"


def first_names(page: Path, heading: str) -> list[str]:
    """What the first column of the tables under a heading names."""
    return [name for row in rows(section(page, heading)) for name in names(row[0])]


MODELS = [
    ("Top level", Settings, {"path"}),
    ("`[tiers.NAME]`", Tier, set()),
    ("`[deployments.NAME]`", Deployment, {"name"}),
    ("`price`", PriceOverlay, set()),
    ("`[[policy]]`", PolicyRule, set()),
    ("`[[cascade]]`", CascadeRule, set()),
    ("`[shadow]`", ShadowSettings, set()),
    ("`[[caps]]`", CapRule, set()),
    ("`[worker]`", WorkerSettings, set()),
    ("`[flower]`", FlowerSettings, set()),
    ("`[report]`", ReportSettings, set()),
    ("`[metrics]`", MetricsSettings, set()),
    ("`[retention]`", RetentionSettings, set()),
    ("`[[webhooks]]`", Webhook, set()),
]


@pytest.mark.parametrize(("heading", "model", "hidden"), MODELS, ids=[heading for heading, _, _ in MODELS])
def test_every_key_stands_with_its_type_and_default(heading: str, model: type[BaseModel], hidden: set[str]) -> None:
    fields = {name: field for name, field in model.model_fields.items() if name not in hidden}
    documented = {names(row[0])[0]: row for row in rows(section(CONFIGURATION, heading))}
    assert sorted(documented) == sorted(fields)
    for name, field in fields.items():
        _, type_, default, meaning = documented[name]
        assert type_ == _type_in_words(name, field), name
        assert default == _default_in_words(field), name
        assert meaning, name


def _type_in_words(name: str, field: FieldInfo) -> str:
    annotation = _without_none(field.annotation)
    metadata = (*field.metadata, *getattr(annotation, "__metadata__", ()))
    if any(getattr(one, "func", None) is _seconds for one in metadata):
        return "span"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    words: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        SecretStr: "URL",
    }
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) is list:
        return "list of tables" if isinstance(get_args(annotation)[0], type(BaseModel)) else "list of texts"
    if get_origin(annotation) is dict:
        value = get_args(annotation)[1]
        if get_origin(value) is typing.Annotated:
            return "table of numbers"
        return "table of texts" if value is str else "table" if value is Any else "tables"
    assert issubclass(annotation, BaseModel), name
    return "table"


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (types.UnionType, typing.Union):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _default_in_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or isinstance(default, BaseModel):
        return "–"
    if default in ({}, []):
        value = get_args(field.annotation)[-1]
        return "`{}`" if value in (str, Any) else "–"
    # As TOML writes them.
    if isinstance(default, list):
        return f"`{json.dumps(default)}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default if isinstance(default, str) else str(default).lower()}`"


def test_every_environment_variable_stands_on_its_page() -> None:
    documented = set(first_names(CONFIGURATION, "Environment"))
    assert {"OPENAI_API_KEY_FILE", "TIERQ_DATABASE_URL_FILE"} <= documented, "and so for every other secret"
    documented = {name for name in documented if not name.endswith(FILE_SUFFIX)}
    known = {*configuration.URL_VARIABLES.values(), *configuration.KEY_VARIABLES.values()}
    known |= {*configuration.BASE_URL_VARIABLES.values(), "TIERQ_CONFIG", "TIERQ_ACTOR", "TIERQ_FLOWER_PASSWORD"}
    known |= {"TIERQ_LOG_FORMAT", KEYS_VARIABLE}
    known.add(Webhook.model_fields["secret_env"].default)
    assert documented == known


def test_the_default_rules_stand_where_routing_is_explained(tmp_path: Path) -> None:
    (block,) = blocks("toml", [ROOT / "docs" / "explanation" / "routing.md"])
    file = tmp_path / "tierq.toml"
    file.write_text(block.text)
    assert tuple(configuration.load(file, env={}).policy) == DEFAULT_RULES


PUBLIC_TABLES = {
    "tierq_batch": tables.batches,
    "tierq_spec": tables.specs,
    "tierq_task": tables.tasks,
    "tierq_payload": tables.payloads,
    "tierq_attempt": tables.attempts,
    "tierq_decision": tables.decisions,
}


@pytest.mark.parametrize("name", PUBLIC_TABLES)
def test_every_column_of_a_public_table_stands_on_its_page(name: str) -> None:
    text = section(TABLES, f"`{name}`")
    public = [one for row in rows(text) for one in names(row[0])]
    private = re.search(r"^Also there, and no promise: (.*)\.$", text, re.M)
    hidden = names(private[1]) if private else []
    columns = [column.name for column in PUBLIC_TABLES[name].columns]
    assert sorted(public + hidden) == sorted(columns)
    assert public == [column for column in columns if column in public]


def test_every_other_table_is_named_as_tierqs_own() -> None:
    named = {name for name in names(section(TABLES, "The others")) if name.startswith("tierq_")}
    assert named | set(PUBLIC_TABLES) == {*tables.metadata.tables, "tierq_alembic_version"}


def test_the_tree_of_exceptions_is_the_codes() -> None:
    (block,) = blocks("text", [ERRORS])
    assert block.text.rstrip() == "\n".join(_tree(errors.TierQError))
    documented = first_names(ERRORS, "Exceptions")
    assert sorted(documented) == sorted(one.__name__ for one in _subclasses(errors.TierQError))
    elsewhere = {"InvalidInput", "PolicyRefused", "SchemaMismatch"}
    assert set(documented) - elsewhere == {name for name in documented if hasattr(tierq, name)}


def _tree(cls: type) -> list[str]:
    """The classes below, drawn."""
    lines = [cls.__name__]
    children = [one for one in cls.__subclasses__() if one.__module__ == errors.__name__]
    for child in children:
        is_last = child is children[-1]
        below = _tree(child)
        lines.append(f"{'└' if is_last else '├'}── {below[0]}")
        lines += [f"{' ' if is_last else '│'}   {line}" for line in below[1:]]
    return lines


def _subclasses(cls: type) -> list[type]:
    own = [one for one in cls.__subclasses__() if one.__module__ == errors.__name__]
    return [*own, *(below for one in own for below in _subclasses(one))]


SOURCES = [path for room in ("shared", "producer", "workers") for path in (ROOT / room).rglob("*.py")]
_CODE = re.compile(
    r"(?:\b(?:Fail|Escalate|Refusal|TaskError)\(\s*|error_code=)\"(\w+)\""
    r"|\"(?:expired|cancelled|failed)\", \"(\w+)\", (?:\"the |_EXHAUSTED)"
)


def test_every_code_of_a_failed_task_stands_on_its_page() -> None:
    in_code = {one or other for path in SOURCES for one, other in _CODE.findall(path.read_text())}
    documented = {names(row[0])[0]: row for row in rows(section(ERRORS, "Codes of failed tasks"))}
    assert set(documented) == in_code
    retryable = {code for code, row in documented.items() if row[2] == "yes"}
    assert retryable == RETRYABLE_CODES & in_code
    assert {row[1] for row in documented.values()} <= {*TaskState, "–"}
    assert {code for code, row in documented.items() if row[1] == TaskState.FAILED} == FAILED_CODES


@pytest.mark.parametrize(
    ("heading", "words"),
    [("States of tasks", TaskState), ("Outcomes of attempts", (*AttemptOutcome, *ErrorClass))],
    ids=["tasks", "attempts"],
)
def test_every_word_for_an_end_stands_on_its_page(heading: str, words: type[StrEnum]) -> None:
    assert sorted(first_names(OUTCOMES, heading)) == sorted(str(word) for word in words)


def test_every_field_of_an_outcome_stands_on_its_page() -> None:
    documented = [names(row[0])[0] for row in rows(section(OUTCOMES, "`Outcome[T]`")) if len(row) == 3]
    assert documented == list(Outcome.__dataclass_fields__)


def test_every_field_of_tasks_stands_on_its_page() -> None:
    documented = set(first_names(CLIENT, "Task types"))
    own = set(SpecOptions.__annotations__) - set(TaskOptions.__annotations__)
    assert documented >= {"key", "name", *own, *TaskOptions.__annotations__}
    text = section(CLIENT, "Task types")
    assert all(f"`{name}`" in text for name in REQUIRABLE)


@pytest.mark.parametrize(
    ("heading", "cls", "elsewhere"),
    [("`Client`", tierq.Client, {"check_schema"}), ("`Batch[T]` and `Handle[T]`", tierq.Batch, {"page_after"})],
    ids=["Client", "Batch"],
)
def test_every_method_stands_on_its_page(heading: str, cls: type, elsewhere: set[str]) -> None:
    methods = {name for name, one in vars(cls).items() if not name.startswith("_") and callable(one)} - elsewhere
    text = section(CLIENT, heading)
    assert methods <= set(re.findall(r"`(\w+)\(", text))
    if cls is tierq.Client:
        assert set(Forgotten.__slots__) <= set(names(text))
    if cls is tierq.Batch:
        counted = {name for name, one in vars(Progress).items() if isinstance(one, property)}
        assert counted <= set(names(text))
        told = [field for one in (Failures, FailureGroup, FailedTask, Attempt, Retried) for field in one.__slots__]
        assert set(told) <= set(names(text))


def test_every_field_of_a_quote_stands_on_its_page() -> None:
    text = section(CLIENT, "`Quote`")
    documented = [names(row[0])[0] for row in rows(text)]
    assert documented == [*list(Quote.__dataclass_fields__)[:3], "cost_usd", *list(Quote.__dataclass_fields__)[3:]]
    assert set(TierQuote.__slots__) | set(Range.__slots__) <= set(names(text))


def _commands(name: str, command: click.Command) -> dict[str, click.Command]:
    if isinstance(command, click.Group):
        below = {f"{name} {one}": child for one, child in command.commands.items()}
        own = {name: command} if command.invoke_without_command else {}
        return own | {key: value for child, one in below.items() for key, value in _commands(child, one).items()}
    return {name: command}


ALL_COMMANDS = {
    name: command
    for word in COMMANDS
    for name, command in _commands(word, import_module(f"tierq_console.commands.{word}").command).items()
}


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_of_a_command_stands_on_its_page(name: str) -> None:
    documented = {word for one in first_names(CLI, f"tierq {name}") for word in one.split() if word.startswith("--")}
    options = [one for one in ALL_COMMANDS[name].params if isinstance(one, click.Option) and not one.hidden]
    known = {word for option in options for word in (*option.opts, *option.secondary_opts)}
    if name in ("submit", "quote", "evaluate"):
        known -= {word for word in known if word in CLI.read_text()} - documented
    assert documented == known


def test_every_command_has_a_section() -> None:
    headings = re.findall(r"^## tierq (.*)$", CLI.read_text(), re.M)
    assert sorted(headings) == sorted(ALL_COMMANDS)
