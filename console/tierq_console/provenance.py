"""Every value of a configuration, and where it came from."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from tierq_shared import configuration, environment
from tierq_shared.addresses import shown_url
from tierq_shared.deployments import Deployment
from tierq_shared.settings import Settings, Webhook
from tierq_shared.store.sealed import KEYS_VARIABLE
from tierq_shared.webhooks import check_secret

_SECRET_NAMES = re.compile(r"(?i)key|token|secret|password|authorization")


@dataclass(frozen=True, slots=True)
class Value:
    """One setting."""

    name: str
    value: Any
    """Secrets are masked."""
    source: str
    """`file:line`, `environment NAME`, `file PATH (NAME_FILE)`, `embedded stack` or `default`."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


def values(settings: Settings, env: Mapping[str, str] = os.environ) -> list[Value]:
    """Every setting, in the file's order of tables."""
    written = _Written(settings)
    found = [*_urls(settings, written, env), _payload_keys(env)]
    apart = {"database_url", "broker_url", "state_url", "deployments", *(["webhooks"] if settings.webhooks else [])}
    shown = settings.model_dump(exclude=apart, mode="json")
    found += [written.value(place, value) for place, value in _leaves(shown)]
    if not settings.policy:
        rules = [str(rule) for rule in settings.make_policy().rules] if settings.tiers else []
        found = [one for one in found if one.name != "policy"] + [Value("policy", rules, "default")]
    for deployment in settings.deployments.values():
        found += _deployment(deployment, written, env)
    for number, webhook in enumerate(settings.webhooks):
        found += _webhook(number, webhook, written, env)
    return found


def mask_url(url: str) -> str:
    """A URL without the passwords in it."""
    url = re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:password|secret|token|key)[^=&]*)=[^&]*", r"\1=***", url)


class _Written:
    """What the file itself says, and on which line."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.path
        self._text = settings.path.read_text(encoding="utf-8") if settings.path else ""
        self._values: Any = tomllib.loads(self._text)

    def has(self, place: tuple[str, ...]) -> bool:
        here: Any = self._values
        for part in place:
            if isinstance(here, list) and part.isdigit() and int(part) < len(here):
                here = here[int(part)]
            elif isinstance(here, dict) and part in here:
                here = here[part]
            else:
                return False
        return True

    def source(self, place: tuple[str, ...]) -> str:
        if not self.has(place):
            return "default"
        return f"{self._path}:{configuration.line_of(self._text, list(place))}"

    def value(self, place: tuple[str, ...], value: Any) -> Value:
        return Value(".".join(place), value, self.source(place))


def _urls(settings: Settings, written: _Written, env: Mapping[str, str]) -> Iterator[Value]:
    embedded = configuration.embedded_paths(settings.path).urls() if settings.database_url is None else {}
    for name, variable in configuration.URL_VARIABLES.items():
        secret = getattr(settings, name)
        if embedded:
            yield Value(name, embedded[name], "embedded stack")
        elif given := environment.read(variable, env):
            yield Value(name, mask_url(secret.get_secret_value()), given.source)
        else:
            yield written.value((name,), mask_url(secret.get_secret_value()) if secret else None)


def _payload_keys(env: Mapping[str, str]) -> Value:
    given = environment.read(KEYS_VARIABLE, env)
    return Value("payload_keys", "***" if given else None, given.source if given else f"environment {KEYS_VARIABLE}")


def _deployment(deployment: Deployment, written: _Written, env: Mapping[str, str]) -> Iterator[Value]:
    place = ("deployments", deployment.name)
    for name, value in deployment.model_dump(exclude={"name", "base_url"}, mode="json").items():
        yield written.value((*place, name), _masked(value) if name in ("headers", "params") else value)
    yield _base_url(deployment, written, env)
    variable = configuration.key_variable(deployment)
    if variable is not None:
        key = configuration.find_key(deployment, env)
        yield Value(".".join((*place, "key")), "***" if key else None, key.source if key else f"environment {variable}")


def _webhook(number: int, webhook: Webhook, written: _Written, env: Mapping[str, str]) -> Iterator[Value]:
    place = ("webhooks", str(number))
    query = "?***" if urlsplit(webhook.url).query else ""
    yield written.value((*place, "url"), shown_url(webhook.url) + query)
    for name, value in webhook.model_dump(exclude={"url"}, mode="json").items():
        yield written.value((*place, name), value)
    yield Value(".".join((*place, "secret")), "***", check_secret(webhook, number, env).source)


def _base_url(deployment: Deployment, written: _Written, env: Mapping[str, str]) -> Value:
    place = ("deployments", deployment.name, "base_url")
    shown = mask_url(configuration.resolve_base_url(deployment, env).base_url or "")
    variable = configuration.BASE_URL_VARIABLES.get(deployment.provider, "")
    if deployment.base_url is None and env.get(variable):
        return Value(".".join(place), shown, f"environment {variable}")
    return written.value(place, shown)


def _masked(table: dict[str, Any]) -> dict[str, Any]:
    return {name: "***" if _SECRET_NAMES.search(name) else value for name, value in table.items()}


def _leaves(table: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(table, dict) and table:
        for name, value in table.items():
            yield from _leaves(value, (*place, name))
    elif isinstance(table, list) and table and isinstance(table[0], dict):
        for number, value in enumerate(table):
            yield from _leaves({k: v for k, v in value.items() if v is not None}, (*place, str(number)))
    else:
        yield place, table
