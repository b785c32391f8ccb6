"""`tierq policy`: versions of the policy in SQL, which one is active, and what is different between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Connection

from tierq.client import find_settings
from tierq_console import policy_view
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.policy_deriving import derive
from tierq_console.policy_sources import ACTIVE, check_policy, find_policy, who
from tierq_console.steering import note
from tierq_shared.active_policy import FRESH_S
from tierq_shared.policy_document import PolicyDocument
from tierq_shared.policy_files import policy_toml
from tierq_shared.settings import Settings
from tierq_shared.store import policies
from tierq_shared.store.connection import Store

FOLLOW = f"producers and workers follow within {FRESH_S:.0f} s"


@click.group("policy")
def command() -> None:
    """Manage versions of the policy: the table that decides each task's tier.

    Where no version is active, the [[policy]] rules of tierq.toml hold, or the default ones.
    """


command.add_command(derive)


@command.command("show")
@click.argument("version", default=ACTIVE)
@click.option("--toml", "as_toml", is_flag=True, help="Prints it as the file that `apply` takes.")
def show_command(version: str, *, as_toml: bool) -> None:
    """Show a VERSION with its evidence: the active one, `config` for that of tierq.toml, a stored one, or a file.

    \b
      tierq policy show
      tierq policy show config --toml > policy.toml
    """
    with _opened() as (settings, store), store.reading() as connection:
        document = find_policy(connection, settings, version)
    click.echo(policy_toml(document).rstrip() if as_toml else "\n".join(policy_view.shown(document)))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def list_command(*, as_json: bool) -> None:
    """List the stored versions, and when each was made the active one and why."""
    with _opened() as (_, store), store.reading() as connection:
        found, past = policies.stored(connection), policies.activations(connection)
    if as_json:
        click.echo(json.dumps(policy_view.listed_json(found, past), ensure_ascii=False))
        return
    if not any(one.is_active for one in found):
        click.echo("* config: the rules of tierq.toml hold")
    click.echo(
        "\n".join([*policy_view.listed(found), *(["", "activations:"] if past else []), *policy_view.history(past)])
    )


@command.command("apply")
@click.argument("policy")
@click.option("--dry-run", is_flag=True, help="Only checks it, and says what would change.")
def apply_command(policy: str, *, dry_run: bool) -> None:
    """Put a POLICY in force: a file, a stored version, or `config` for the rules of tierq.toml.

    Every tier and deployment that it names must be in the configuration. A version is stored for good: a file that
    says something else needs a version of its own.

    \b
      tierq policy apply policy.toml --dry-run
      tierq policy apply policy.toml
    """
    with _opened() as (settings, store):
        with store.reading() as connection:
            before, new = find_policy(connection, settings, ACTIVE), find_policy(connection, settings, policy)
            is_active = (policies.active_version(connection) or policies.CONFIG) == _name(policy, new.version)
        check_policy(new, settings, policy)
        _say_changes(before.version, new.version, policy_view.changes(before, new))
        if dry_run:
            return
        store.write(lambda connection: _put_in_force(connection, policy, new, anew=not is_active))
        note(store, "policy apply", _name(policy, new.version))
    click.echo(f"policy version {new.version} is active{' already' if is_active else f': {FOLLOW}'}")


@command.command("diff")
@click.argument("before")
@click.argument("after")
def diff_command(before: str, after: str) -> None:
    """Show what changes from BEFORE to AFTER, rule by rule: files, versions, `active` or `config`.

    \b
      tierq policy diff active policy.toml
      tierq policy diff config active
    """
    with _opened() as (settings, store), store.reading() as connection:
        old, new = find_policy(connection, settings, before), find_policy(connection, settings, after)
    _say_changes(old.version, new.version, policy_view.changes(old, new))


@command.command("rollback")
def rollback_command() -> None:
    """Put the version in force again that was active before; once more, and it is the one before that."""
    with _opened() as (settings, store):
        with store.reading() as connection:
            before = find_policy(connection, settings, ACTIVE)
        after = store.write(lambda connection: _roll_back(connection, settings))
        note(store, "policy rollback", after.version)
    _say_changes(before.version, after.version, policy_view.changes(before, after))
    click.echo(f"policy version {after.version} is active again: {FOLLOW}")


@contextmanager
def _opened() -> Iterator[tuple[Settings, Store]]:
    settings = find_settings(None)
    with stoppable(), open_store(settings) as store:
        yield settings, store


def _put_in_force(connection: Connection, policy: str, document: PolicyDocument, *, anew: bool) -> None:
    if policy != policies.CONFIG:
        policies.store(connection, document)
    if anew:
        policies.activate(connection, _name(policy, document.version), f"{policies.APPLIED} by {who()}")


def _roll_back(connection: Connection, settings: Settings) -> PolicyDocument:
    """What is active then. A version that this configuration cannot go by any more is refused, and nothing changed."""
    version = policies.roll_back(connection, who())
    document = find_policy(connection, settings, ACTIVE)
    if version is not None:
        check_policy(document, settings, version)
    return document


def _name(policy: str, version: str) -> str:
    """What is activated: a version, or the word for the configuration's own policy."""
    return policies.CONFIG if policy == policies.CONFIG else version


def _say_changes(before: str, after: str, lines: list[str]) -> None:
    click.echo(f"from {before} to {after}:" if lines else f"{before} and {after} decide alike")
    for line in lines:
        click.echo(f"  {line}")
