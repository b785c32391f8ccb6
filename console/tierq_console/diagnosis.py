"""What `tierq doctor` looks at: what is configured, reachable and priced. It never makes a call that is paid for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError

from tierq_console.embedded.redis_server import find_binary
from tierq_console.provenance import mask_url
from tierq_console.stack import running_record, stack_files
from tierq_shared import configuration
from tierq_shared.addresses import is_public, shown_url
from tierq_shared.deployments import Deployment
from tierq_shared.errors import TierQError
from tierq_shared.money import Rates, usd
from tierq_shared.queues import make_app
from tierq_shared.settings import Settings, Webhook
from tierq_shared.store import leases, schema, sealed
from tierq_shared.store.connection import Store
from tierq_shared.webhooks import check_secret

TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str
    ok: bool | None
    """None where there is nothing to judge."""
    what: str
    mend: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)


def _well(part: str, what: str) -> Finding:
    return Finding(part, ok=True, what=what)


def _bad(part: str, what: str, mend: str) -> Finding:
    return Finding(part, ok=False, what=what, mend=mend)


def examine(settings: Settings, env: Mapping[str, str] = os.environ) -> list[Finding]:
    """Everything, in the order in which a task needs it."""
    where = _well("configuration", str(settings.path or "environment"))
    findings = [where, *_store_and_broker(settings), _payloads()]
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda one: _deployment(one, env), settings.deployments.values()):
            findings += found
        numbers = range(len(settings.webhooks))
        for found in threads.map(lambda number, one: _webhook(number, one, env), numbers, settings.webhooks):
            findings += found
    return findings + _unused(settings)


def _store_and_broker(settings: Settings) -> list[Finding]:
    if settings.database_url is not None:
        return [*_database(settings), _broker(settings), _state(settings)]
    files = stack_files(settings)
    if running_record(files) is not None:
        embedded = _well("embedded stack", f"runs, {files.root}")
        live = configuration.with_embedded_urls(settings)
        return [embedded, *_database(live), _broker(live), _state(live)]
    try:
        binary = find_binary()
    except TierQError as error:
        return [_bad("embedded stack", f"cannot start in {files.root}", str(error))]
    return [_well("embedded stack", f"starts with the first command, in {files.root} ({binary})")]


def _database(settings: Settings) -> list[Finding]:
    secret = settings.database_url
    url = secret.get_secret_value() if secret else ""
    shown = mask_url(url)
    try:
        store = Store(url)
    except TierQError as error:
        return [_bad("database", shown, str(error))]
    with closing(store):
        try:
            version = schema.check(store)
            with store.reading() as connection:
                live = leases.live_workers(connection)
        except DBAPIError as error:
            return [_bad("database", f"{shown}: {_first_line(error.orig)}", "is it up, and the URL right?")]
        except TierQError as error:
            return [_bad("database", shown, str(error))]
    database = _well("database", f"{shown}, tables at {version}")
    return [database, *(_workers(tier, live.get(tier, 0)) for tier in settings.tier_names)]


def _payloads() -> Finding:
    try:
        keys = sealed.cipher()
    except TierQError as error:
        return _bad("payloads", "cannot be encrypted or read", str(error))
    if keys is None:
        return Finding("payloads", None, "not encrypted", f"{sealed.KEYS_VARIABLE} holds the keys for it")
    return _well("payloads", f"encrypted with the first of {keys.keys} key{'s' if keys.keys != 1 else ''}")


def _workers(tier: str, count: int) -> Finding:
    what = f"{count} live worker{'s' if count != 1 else ''}"
    return Finding(f"tier {tier}", count > 0, what, "" if count else f"start `tierq worker {tier}`")


def _broker(settings: Settings) -> Finding:
    try:
        app = make_app(settings)
    except TierQError as error:
        return _bad("broker", "not configured", str(error))
    url = mask_url(app.conf.broker_url)

    def connect() -> None:
        with app.connection(connect_timeout=TIMEOUT_S) as connection:
            connection.connect()
            connection.default_channel.close()

    return _reach("broker", url, connect, "is it up, and TIERQ_BROKER_URL or broker_url right?")


def _state(settings: Settings) -> Finding:
    if settings.state_url is None:
        return Finding("state", None, "none: limits are local, results are polled", "TIERQ_STATE_URL names a Redis")
    import redis

    url = settings.state_url.get_secret_value()

    def ping() -> None:
        with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
            client.ping()

    return _reach("state", mask_url(url), ping, "is it up, and TIERQ_STATE_URL or state_url right?")


def _reach(part: str, shown: str, connect: Callable[[], None], mend: str) -> Finding:
    try:
        connect()
    except Exception as error:  # whatever a driver raises, the finding is the same: it cannot be reached
        return _bad(part, f"{shown}: {_first_line(error)}", mend)
    return _well(part, shown)


def _deployment(deployment: Deployment, env: Mapping[str, str]) -> list[Finding]:
    part = f"deployment {deployment.name}"
    return [_reachable(part, deployment, env), _key(part, deployment, env), _priced(part, deployment)]


def _reachable(part: str, deployment: Deployment, env: Mapping[str, str]) -> Finding:
    try:
        base_url = configuration.resolve_base_url(deployment, env).base_url or ""
    except TierQError as error:
        return _bad(part, f"{deployment.model}: its address cannot be used", str(error))
    url = urlsplit(base_url)
    shown = f"{deployment.model} at {mask_url(base_url)}"
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        with socket.create_connection((url.hostname or "", port), TIMEOUT_S):
            return _well(part, f"{shown} answers")
    except (OSError, ValueError) as error:
        return _bad(part, f"{shown}: {_first_line(error)}", "check its base_url, and the network")


def _key(part: str, deployment: Deployment, env: Mapping[str, str]) -> Finding:
    variable = configuration.key_variable(deployment)
    if variable is None:
        return Finding(part, None, "no key expected", "")
    try:
        key = configuration.find_key(deployment, env)
    except TierQError as error:
        return _bad(part, "no key can be read", str(error))
    if key is None:
        return _bad(part, f"{variable} is not set", f"set {variable} or {variable}_FILE where the workers run")
    return _well(part, f"{variable} is set, from {key.source}")


def _priced(part: str, deployment: Deployment) -> Finding:
    try:
        from tierq_shared.prices import PriceList
    except ModuleNotFoundError:
        return Finding(part, None, "prices not looked up", "pip install 'tierq[workers]'")
    rates = PriceList().rates(deployment)
    window = PriceList.context_window(deployment)
    size = f"context window {window:,}" if window else "context window unknown"
    if rates is None:
        mend = f"add price = {{ input = …, output = … }} to [deployments.{deployment.name}]"
        return _bad(part, f"price unknown, {size}: its costs will be shown as unknown", mend)
    return _well(part, f"{_per_million(rates)} ({rates.version}), {size}")


def _per_million(rates: Rates) -> str:
    return f"${usd(rates.input):f} in, ${usd(rates.output):f} out per million tokens"


def _webhook(number: int, webhook: Webhook, env: Mapping[str, str]) -> list[Finding]:
    part = f"webhook {shown_url(webhook.url)}"
    try:
        secret = check_secret(webhook, number, env)
    except TierQError as error:
        signed = _bad(part, "what is sent cannot be signed", str(error))
    else:
        signed = _well(part, f"signed with the secret from {secret.source}")
    return [_leads_to(part, webhook), signed]


def _leads_to(part: str, webhook: Webhook) -> Finding:
    url = urlsplit(webhook.url)
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        found = {str(one[4][0]) for one in socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        return _bad(part, f"its name is not found: {_first_line(error)}", "check its url, and the network")
    refused = [] if webhook.allow_private else sorted(one for one in found if not is_public(one))
    if len(refused) == len(found):
        mend = "set allow_private = true beside its url, where that network is your own"
        return _bad(part, f"{', '.join(refused)} is no public address: nothing is sent there", mend)
    return Finding(part, None, "its name is found; `tierq webhooks test` sends it a test")


def _unused(settings: Settings) -> list[Finding]:
    used = {name for tier in settings.tiers.values() for name in tier.chain}
    return [
        Finding(f"deployment {name}", None, "in no tier's chain: it is never called")
        for name in settings.deployments
        if name not in used
    ]


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
