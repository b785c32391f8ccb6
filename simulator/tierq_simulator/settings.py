"""What the simulator is told to do: per model and per provider, latency, skill, quota and faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tierq_simulator.answer_key import AnswerKey

ERROR_KINDS = frozenset(
    {"rate_limited", "overloaded", "server_error", "quota", "auth", "too_long", "not_found", "invalid_request"}
)
TRANSPORT_KINDS = frozenset({"reset", "hang", "html_error"})
ANSWER_KINDS = frozenset(
    {"broken_json", "schema_violation", "unknown_label", "truncated", "refused", "empty"}
    | {"slow_body", "huge", "deep", "nan", "bad_charset"}
)
KINDS = ERROR_KINDS | TRANSPORT_KINDS | ANSWER_KINDS
PROVIDERS = frozenset({"openai", "anthropic", "gemini"})


class ConfigError(ValueError):
    """The configuration is not one the simulator understands; the message says where."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault on demand.

    ``rate`` is its share of requests. ``first`` limits it to the first N requests (with ``per_task``: of each input).
    ``per_task`` makes it depend on the input alone, so that the same task meets it again. ``seconds`` is how long a
    slow body takes, ``size`` the bytes of a huge or the levels of a deep answer. ``where`` is ``content``, ``body``
    (broken_json: the HTTP body itself) or ``prompt`` (refused: before any answer). ``retry_as`` spells the wait as
    ``seconds``, ``ms`` or ``date`` instead of the provider's own way; ``should_retry`` adds ``x-should-retry``.
    """

    kind: str
    rate: float = 1.0
    first: int | None = None
    per_task: bool = False
    retry_after_s: float | None = None
    retry_as: str | None = None
    should_retry: bool | None = None
    status: int | None = None
    seconds: float | None = None
    size: int | None = None
    where: str = "content"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one model behaves. Latency is ``latency_ms`` ± jitter, or lognormal by its p50 and p95."""

    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    skill: float = 1.0
    rpm: int | None = None
    tpm: int | None = None
    burst_s: float = 60.0
    context_window: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    prompt_cache: bool = False
    key_required: bool = True


@dataclass(frozen=True, slots=True)
class Resolved:
    """The behaviour of one model, its faults by the place where they are configured, and whose quota it draws on."""

    behaviour: Behaviour
    faults: tuple[tuple[str, Fault], ...]
    rpm_scope: str
    tpm_scope: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration: what is more specific wins (model, then provider, then "*"), faults add up."""

    seed: int = 0
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: tuple[Any, ...] = ()
    """Where the right answers are: files of labelled samples, or samples."""
    key: AnswerKey = field(default_factory=AnswerKey, compare=False, repr=False)

    @classmethod
    def parse(cls, raw: object, seed: int = 0, folder: Path | None = None) -> Settings:
        """Read a configuration as JSON gives it; a ConfigError names what is wrong and where.

        ``folder`` is where the files that it names are looked for, the working folder by default.
        """
        top = _table(raw, "config")
        _known(top, {"seed", "models", "providers", "answers"}, "config")
        models = {
            name: _entry(entry, f"models.{name}") for name, entry in _table(top.get("models", {}), "models").items()
        }
        named = _table(top.get("providers", {}), "providers")
        _known(named, PROVIDERS, "providers")
        providers = {name: _entry(entry, f"providers.{name}") for name, entry in named.items()}
        answers = tuple(_placed(one, folder) for one in _list(top.get("answers", []), "answers"))
        return cls(_integer(top.get("seed", seed), "seed"), models, providers, answers, _read_key(answers))

    def resolve(self, provider: str, model: str) -> Resolved:
        """What holds for this model of this provider."""
        scopes = self._scopes(provider, model)
        merged: dict[str, Any] = {}
        owner = {"rpm": "", "tpm": ""}
        for scope, entry in reversed(scopes):
            merged.update((key, value) for key, value in entry.items() if key != "faults")
            owner.update((key, scope) for key in owner if key in entry)
        numbered = ((scope, enumerate(entry.get("faults", ()))) for scope, entry in scopes)
        faults = tuple((f"{scope} {number}", fault) for scope, found in numbered for number, fault in found)
        return Resolved(Behaviour(**merged), faults, owner["rpm"], owner["tpm"])

    def _scopes(self, provider: str, model: str) -> list[tuple[str, Mapping[str, Any]]]:
        found = [
            (f"model {model}", self.models.get(model)),
            (f"provider {provider}", self.providers.get(provider)),
            ("*", self.models.get("*")),
        ]
        return [(scope, entry) for scope, entry in found if entry is not None]

    def as_json(self) -> dict[str, Any]:
        """The configuration as it was given, for GET /_sim/config."""
        return {
            "seed": self.seed,
            "models": {name: _shown(entry) for name, entry in self.models.items()},
            "providers": {name: _shown(entry) for name, entry in self.providers.items()},
            "answers": list(self.answers),
        }


def parse_fault(raw: object, where: str) -> Fault:
    """Read one fault; a bare string is its kind."""
    table = {"kind": raw} if isinstance(raw, str) else _table(raw, where)
    _known(table, {f.name for f in fields(Fault)}, where)
    if table.get("kind") not in KINDS:
        raise ConfigError(f"{where}.kind: {table.get('kind')!r} is not one of {', '.join(sorted(KINDS))}")
    return Fault(**{key: _FAULT_TYPES[key](value, f"{where}.{key}") for key, value in table.items()})


def _entry(raw: object, where: str) -> dict[str, Any]:
    table = dict(_table(raw, where))
    faults = _list(table.pop("faults", []), f"{where}.faults")
    _known(table, set(_BEHAVIOUR_TYPES), where)
    entry: dict[str, Any] = {key: _BEHAVIOUR_TYPES[key](value, f"{where}.{key}") for key, value in table.items()}
    if ("latency_p50_ms" in entry) != ("latency_p95_ms" in entry):
        raise ConfigError(f"{where}: latency_p50_ms and latency_p95_ms come together")
    entry["faults"] = tuple(parse_fault(fault, f"{where}.faults[{i}]") for i, fault in enumerate(faults))
    return entry


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in entry.items() if key != "faults"}
    shown = [{f.name: getattr(fault, f.name) for f in fields(Fault)} for fault in entry.get("faults", ())]
    plain["faults"] = [{key: value for key, value in fault.items() if value is not None} for fault in shown]
    return plain


def _table(raw: object, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: an object is expected")
    return raw


def _list(raw: object, where: str) -> list[Any]:
    if not isinstance(raw, list):
        raise ConfigError(f"{where}: a list is expected")
    return raw


def _placed(source: Any, folder: Path | None) -> Any:
    """A file's full path, so that the configuration means the same wherever it is handed back."""
    return str((folder or Path.cwd()) / source) if isinstance(source, str) else source


def _read_key(answers: tuple[Any, ...]) -> AnswerKey:
    try:
        return AnswerKey.read(answers, "answers")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _known(table: Mapping[str, object], names: set[str] | frozenset[str], where: str) -> None:
    unknown = sorted(set(table) - names)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(names))}")


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{where}: an integer is expected")
    return value


def _count(value: object, where: str) -> int | None:
    if value is not None and _integer(value, where) < 0:
        raise ConfigError(f"{where}: must not be negative")
    return value if isinstance(value, int) else None


def _positive(value: object, where: str) -> int | None:
    if value is not None and _integer(value, where) <= 0:
        raise ConfigError(f"{where}: must be above 0")
    return value if isinstance(value, int) else None


def _number(value: object, where: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}: a number of at least 0 is expected")
    return float(value)


def _share(value: object, where: str) -> float:
    number = _number(value, where)
    if number is None or number > 1:
        raise ConfigError(f"{where}: a number between 0 and 1 is expected")
    return number


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: true or false is expected")
    return value


def _word(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: a string is expected")
    return value


def _place(value: object, where: str) -> str:
    if value not in ("content", "body", "prompt"):
        raise ConfigError(f"{where}: {value!r} is not one of content, body, prompt")
    return str(value)


def _spelling(value: object, where: str) -> str:
    if value not in ("seconds", "ms", "date"):
        raise ConfigError(f"{where}: {value!r} is not one of seconds, ms, date")
    return str(value)


_Reader = Callable[[object, str], Any]

_FAULT_TYPES: dict[str, _Reader] = {
    "kind": _word,
    "rate": _share,
    "first": _count,
    "per_task": _flag,
    "retry_after_s": _number,
    "retry_as": _spelling,
    "should_retry": _flag,
    "status": _positive,
    "seconds": _number,
    "size": _positive,
    "where": _place,
}
_BEHAVIOUR_TYPES: dict[str, _Reader] = {
    "latency_ms": _number,
    "latency_jitter_ms": _number,
    "latency_p50_ms": _number,
    "latency_p95_ms": _number,
    "skill": _share,
    "rpm": _positive,
    "tpm": _positive,
    "burst_s": _number,
    "context_window": _positive,
    "cached_tokens": _count,
    "reasoning_tokens": _count,
    "prompt_cache": _flag,
    "key_required": _flag,
}
