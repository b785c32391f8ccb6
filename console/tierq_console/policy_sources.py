"""Finds the policy that a word names, a file or a version, and says whether this configuration can go by it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from tierq_console.batches import store_if_there
from tierq_shared.active_policy import ActivePolicy
from tierq_shared.checks import did_you_mean
from tierq_shared.configuration import line_of
from tierq_shared.errors import ConfigurationError
from tierq_shared.policy import Policy
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.policy_files import read_policy_file
from tierq_shared.settings import Settings
from tierq_shared.store import policies

ACTIVE = "active"


def find_policy(connection: Connection, settings: Settings, word: str) -> PolicyDocument:
    """The policy of a file, of a stored version, `active`, or `config` for that of `tierq.toml`.

    Raises:
        PolicyRefused: no such version is stored.
        ConfigurationError: the file cannot be read or holds what it may not.
    """
    if word == policies.CONFIG:
        return configured(settings)
    if word == ACTIVE:
        return policies.active(connection) or configured(settings)
    return read_policy_file(Path(word)) if is_file(word) else policies.get(connection, word)


def is_file(word: str) -> bool:
    """Whether a word names a file rather than a version: versions hold no slash, and few files end without `.toml`."""
    return word.endswith(".toml") or os.sep in word or Path(word).is_file()


def policy_in_force(settings: Settings) -> Policy:
    """The policy that a submission would go by: the store's active version, else the configuration's own.

    Raises:
        StoreError: a database is configured, and cannot be reached.
    """
    with store_if_there(settings) as store:
        return settings.make_policy() if store is None else ActivePolicy(settings, store).current()


def configured(settings: Settings) -> PolicyDocument:
    """The policy of `tierq.toml` as a document."""
    policy = settings.make_policy()
    rules = tuple(DocumentRule(**rule.model_dump()) for rule in policy.rules)
    return PolicyDocument(version=policy.version, created_at=datetime.now(UTC), tiers=tuple(policy.tiers), policy=rules)


def check_policy(document: PolicyDocument, settings: Settings, source: str) -> None:
    """Passes where every tier and deployment that a policy names is one of the configuration.

    ``source``: the file or version, for the message.

    Raises:
        ConfigurationError: they are not; all findings are listed, of a file with their lines.
    """
    if not settings.tiers:
        raise ConfigurationError(
            "no tiers are configured here, so the policy cannot be checked: `tierq init` writes some"
        )
    text = Path(source).read_text(encoding="utf-8") if is_file(source) else None
    found = [
        f"{source}{f':{line_of(text, place)}' if text is not None else ''}: {'.'.join(place)}: {message}"
        for place, message in _faults(document, settings)
    ]
    if found:
        raise ConfigurationError("\n".join(found))


def who() -> str:
    """Whoever calls the command, for the record."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _faults(document: PolicyDocument, settings: Settings) -> Iterator[tuple[list[str], str]]:
    """Each finding with the place of what is at fault."""
    yield from _faults_of_tiers(document, settings)
    if not document.policy:
        yield ["policy"], "has no rule: give at least one, such as [[policy]] with the last tier alone"
    for number, rule in enumerate(document.policy):
        place = ["policy", str(number)]
        if rule.tier not in settings.tiers:
            yield [*place, "tier"], _no_tier(rule.tier, settings)
            continue
        if rule.tier not in document.tiers:
            yield [*place, "tier"], f"{rule.tier!r} is not among the tiers that this policy names: add it to tiers"
        yield from _faults_of_chain(rule, place, settings)


def _faults_of_tiers(document: PolicyDocument, settings: Settings) -> Iterator[tuple[list[str], str]]:
    unknown = [tier for tier in document.tiers if tier not in settings.tiers]
    for tier in unknown:
        yield ["tiers"], _no_tier(tier, settings)
    in_order = [tier for tier in settings.tiers if tier in document.tiers]
    if not unknown and list(document.tiers) != in_order:
        yield ["tiers"], f"stand in another order than in the configuration, where they are {', '.join(in_order)}"


def _faults_of_chain(rule: DocumentRule, place: list[str], settings: Settings) -> Iterator[tuple[list[str], str]]:
    chain = settings.tiers[rule.tier].chain
    names = rule.chain or ()
    for name in names:
        if name not in chain:
            hint = did_you_mean(name, chain)
            yield [*place, "chain"], f"no deployment of tier {rule.tier!r} is named {name!r}{hint}: {', '.join(chain)}"
    if len(set(names)) < len(names):
        yield [*place, "chain"], "names a deployment more than once"


def _no_tier(tier: str, settings: Settings) -> str:
    return f"there is no tier {tier!r}{did_you_mean(tier, settings.tiers)}; the tiers are {', '.join(settings.tiers)}"
