"""`tierq webhooks`, and what `tierq doctor` and `tierq config` say of webhooks."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from tierq_console import diagnosis, provenance
from tierq_console.commands.webhooks import command
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, SchemaMismatch
from tierq_shared.store import actions, schema, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import webhooks as table
from tierq_shared.store.webhook_events import Happening
from tierq_workers import webhooks as delivering
from tierq_workers.transport import Posted
from unit.store.installation import Installation

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ENV = {"TIERQ_WEBHOOK_SECRET": SECRET}
URL = "https://h.example/tierq"
CONFIG = f'database_url = "sqlite:///{{folder}}/tierq.db"\n[[webhooks]]\nurl = "{URL}?token=hush"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """A store with two messages, one of which was given up, and its configuration in the working folder."""
    (tmp_path / "tierq.toml").write_text(CONFIG.format(folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIERQ_WEBHOOK_SECRET", SECRET)
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    here = Installation(store)
    happened = [Happening("batch.finished", here.now(), f"b{number}", {}) for number in range(2)]
    store.write(lambda connection: webhooks.add(connection, URL, happened))
    here.set(table, table.c.event.contains("b1"), state="failed", tries=10, http_status=500, error="was answered 500")
    yield here
    store.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(command, words, catch_exceptions=False)


def test_deliveries_are_listed(here: Installation) -> None:
    output = run().output
    assert ("was answered 500" in output, "pending" in output, URL in output) == (True, True, True)
    first, second = orjson.loads(run("--json").output)
    assert (first["state"], first["tries"], first["http_status"]) == ("failed", 10, 500)
    assert (second["event"].split(":")[:2], second["endpoint"]) == (["batch.finished", "b0"], URL)
    assert len(orjson.loads(run("--limit", "1", "--json").output)) == 1
    here.clear()
    assert "no endpoint was told of anything yet" in run().output


def test_one_message_is_sent_again_by_the_beginning_of_its_id(here: Installation) -> None:
    failed = here.one(table, table.c.state == "failed")
    assert run("retry", failed.id[:-1]).output == "1 message is sent again by the next worker that looks\n"
    assert here.one(table, table.c.id == failed.id).state == "pending"
    (action,) = here.read(lambda connection: list(actions.recent(connection, 5)))
    assert (action.action, action.target, action.details) == ("webhooks retry", failed.id, {"event": failed.event})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("retry",), "name one ID, or give --failed"),
        (("retry", "abc", "--failed"), "name one ID, or give --failed"),
        (("retry", "zz"), "no message has an id that begins with 'zz'"),
        (("retry", "0"), "more than one message has an id that begins with '0'"),
    ],
)
def test_what_cannot_be_sent_again_is_said(here: Installation, words: tuple[str, ...], why: str) -> None:
    result = run(*words)
    assert (result.exit_code, why in result.output) == (2, True)
    assert here.count(table, table.c.state == "failed") == 1


def test_tables_of_the_release_before_have_no_webhooks(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "has", lambda _store, _version: False)
    with pytest.raises(SchemaMismatch, match="run `tierq migrate`"):
        run()


@pytest.mark.parametrize(
    ("posted", "said", "code"),
    [
        (Posted(200, body=b"thanks\x1b[2J"), f"{URL} was answered 200: thanks [2J\n", 0),
        (Posted(302), f"{URL} was answered 302: redirects are not followed\n", 1),
        (Posted(None, "no answer within 15 s"), f"{URL} got no answer within 15 s\n", 1),
    ],
)
def test_a_test_says_what_came_back(
    here: Installation, monkeypatch: pytest.MonkeyPatch, posted: Posted, said: str, code: int
) -> None:
    sent: list[tuple[str, bytes]] = []

    class FakePoster:
        async def post(self, url: str, body: bytes, _headers: Any, *, allow_private: bool) -> Posted:
            assert not allow_private
            sent.append((url, body))
            return posted

    monkeypatch.setattr(delivering, "Poster", FakePoster)
    result = run("test")
    assert (result.output, result.exit_code) == (said, code)
    ((url, body),) = sent
    assert url == f"{URL}?token=hush"
    assert orjson.loads(body)["type"] == "tierq.test"
    (shown,) = orjson.loads(run("test", "--json").output)
    assert shown == {"endpoint": URL, "http_status": posted.status, "error": posted.error}


def test_without_webhooks_there_is_nothing_to_test(here: Installation, tmp_path: Path) -> None:
    (tmp_path / "tierq.toml").write_text("")
    with pytest.raises(ConfigurationError, match=r"no \[\[webhooks\]\] are configured here"):
        run("test")


# tierq doctor, tierq config.

Findings = Callable[..., list[diagnosis.Finding]]


@pytest.fixture
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """What the doctor finds of a webhook whose name leads to an address."""

    def find(address: str | None, env: dict[str, str], more: str = "") -> list[diagnosis.Finding]:
        def looked_up(*_: object, **__: object) -> Any:
            if address is None:
                raise socket.gaierror(-2, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

        monkeypatch.setattr(socket, "getaddrinfo", looked_up)
        file = tmp_path / "tierq.toml"
        file.write_text(CONFIG.format(folder=tmp_path) + more)
        found = diagnosis.examine(configuration.load(file, env={}), env)
        return [one for one in found if one.part == f"webhook {URL}"]

    return find


def test_the_doctor_finds_that_a_webhook_is_well(findings: Findings) -> None:
    where, signed = findings("1.1.1.1", ENV)
    assert (where.ok, signed.ok) == (None, True)
    assert signed.what == "signed with the secret from environment TIERQ_WEBHOOK_SECRET"
    assert findings("10.0.0.7", ENV, "allow_private = true")[0].ok is None


@pytest.mark.parametrize(
    ("address", "what", "mend"),
    [
        ("10.0.0.7", "10.0.0.7 is no public address: nothing is sent there", "allow_private = true"),
        (None, "its name is not found", "check its url"),
    ],
)
def test_the_doctor_finds_where_nothing_can_be_sent(
    findings: Findings, address: str | None, what: str, mend: str
) -> None:
    where, signed = findings(address, {})
    assert (where.ok, signed.ok) == (False, False)
    assert (what in where.what, mend in where.mend) == (True, True)
    assert "TIERQ_WEBHOOK_SECRET is not set" in signed.mend


def test_the_configuration_is_shown_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "tierq.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    found = {one.name: one for one in provenance.values(configuration.load(file, env={}), ENV)}
    assert found["webhooks.0.url"].value == f"{URL}?***"
    assert (found["webhooks.0.url"].source, found["webhooks.0.min_tasks"].source) == (f"{file}:3", "default")
    secret = found["webhooks.0.secret"]
    assert (secret.value, secret.source) == ("***", "environment TIERQ_WEBHOOK_SECRET")
    assert not any(word in str(found) for word in ("hush", SECRET))
